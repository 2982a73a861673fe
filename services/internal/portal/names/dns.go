package names

import (
	"context"
	"fmt"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

// recordTTL is that of a TXT record, which is there for some seconds, in seconds.
const recordTTL = 60

// records answers dns-01: it puts the TXT record at the zone's primary server by
// an update (RFC 2136) that is signed (TSIG, RFC 8945), over TCP.
type records struct {
	s   *Service
	set Settings
}

// Present puts the record.
func (r records) Present(ctx context.Context, c acme.Challenge) error {
	return r.update(ctx, c, (*dns.Msg).Insert)
}

// Wait gives the zone's other servers time to fetch it.
func (r records) Wait(ctx context.Context, _ acme.Challenge) error { return wait(ctx, r.s.cfg.Wait) }

// CleanUp takes the record away.
func (r records) CleanUp(ctx context.Context, c acme.Challenge) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer stop()
	return r.update(ctx, c, (*dns.Msg).Remove)
}

func (r records) update(ctx context.Context, c acme.Challenge, change func(*dns.Msg, []dns.RR)) error {
	zone, name := dns.Fqdn(r.set.Zone), dns.Fqdn(c.DNS01TXTRecordName())
	if !dns.IsSubDomain(zone, name) {
		return fmt.Errorf("update of the DNS: %s is not in the zone %s", name, zone)
	}
	key := dns.Fqdn(r.set.Key)
	m := new(dns.Msg).SetUpdate(zone)
	change(m, []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: recordTTL}, Txt: []string{c.DNS01KeyAuthorization()}}})
	m.SetTsig(key, dns.Fqdn(r.set.Algorithm), 300, r.s.now().Unix())
	d := r.s.dialer()
	client := &dns.Client{Net: "tcp", Dialer: d, Timeout: 15 * time.Second, TsigSecret: map[string]string{key: r.set.Secret}}
	answer, _, err := client.ExchangeContext(ctx, m, r.set.Server)
	if err != nil {
		return fmt.Errorf("update of the DNS at %s: %w", r.set.Server, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("update of the DNS at %s: it answered %s", r.set.Server, dns.RcodeToString[answer.Rcode])
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
