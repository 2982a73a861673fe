package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"net/http"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// 200 zones of three appliances are linked to one instance, a process of its own,
// by the client that real ones have. Told are the processor's time and the memory
// of that process, and how often an appliance's last word was older than
// link.SilentAfter.
//
//	go test -run '^$' -bench Links -benchtime 1x ./services/portal
func BenchmarkLinks(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchLinks(b, storetest.SQLite(b)) })
	b.Run("postgres", func(b *testing.B) { benchLinks(b, storetest.Postgres(b)) })
}

func benchLinks(b *testing.B, database string) {
	const zoneCount, each, lasts = 200, 3, 40 * time.Second
	dir := b.TempDir()
	key := make([]byte, 32)
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte(hex.EncodeToString(key)+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(dir, "portal")
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	if err := os.Symlink(self, program); err != nil {
		b.Fatal(err)
	}
	addr := freePort(b)
	cmd := exec.Command(program, "-dir", dir, "-key-file", keyFile, "-database", database, "-listen", addr, "-url", "https://"+addr, "-metrics-listen", "")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for {
		if resp, err := web.Get("https://" + addr + "/healthz"); err == nil {
			resp.Body.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	db, err := store.Open(b.Context(), database, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	v, err := vault.New(key)
	if err != nil {
		b.Fatal(err)
	}
	root, err := edge.LoadRoot(b.Context(), db, v, "127.0.0.1")
	if err != nil {
		b.Fatal(err)
	}
	pin, err := base64.RawURLEncoding.DecodeString(root.Pin())
	if err != nil {
		b.Fatal(err)
	}
	z := zones.New(zones.Config{DB: db, Vault: v, URL: &url.URL{Scheme: "https", Host: addr}, Pin: pin})
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var linked atomic.Int64
	for i := range zoneCount {
		var a people.Account
		if err := db.Write(ctx, func(tx *store.Tx) (err error) {
			a, err = people.InsertAccount(tx, people.Account{Name: fmt.Sprint("Account ", i), Type: people.Business, DefaultKind: people.KindOnPrem})
			return err
		}); err != nil {
			b.Fatal(err)
		}
		who := people.Actor{User: "u", Account: a.ID, Name: "u", Role: people.Owner}
		if err := z.Enable(ctx, who, "Office"); err != nil {
			b.Fatal(err)
		}
		c, err := z.Get(ctx, who)
		if err != nil {
			b.Fatal(err)
		}
		m, err := z.AddToken(ctx, who, zones.TokenInput{Zone: c.Zones[0].ID, Title: "t"})
		if err != nil {
			b.Fatal(err)
		}
		for j := range each {
			role := link.Router
			if j == 0 {
				role = link.Controller
			}
			cred, err := link.Enrol(ctx, link.EnrolOptions{Token: m.Secret, Role: role, Host: fmt.Sprint("host-", j), Version: "1"})
			if err != nil {
				b.Fatal(err)
			}
			var once sync.Once
			client, err := link.NewClient(link.ClientConfig{Credentials: cred, Host: fmt.Sprint("host-", j), Version: "1", Save: func(link.Credentials) error { return nil },
				Config: func(link.Config) { once.Do(func() { linked.Add(1) }) },
				Status: func() link.Status {
					return link.Status{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i), 0, byte(j)})}, Clock: time.Now(), HTTPS: 443, Media: []uint16{8801}, Participants: i, Limit: 200}
				}})
			if err != nil {
				b.Fatal(err)
			}
			running.Go(func() { _ = client.Run(ctx) })
		}
	}
	for linked.Load() < zoneCount*each {
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(5 * time.Second) // enrolment is over, and all is written
	for b.Loop() {
		begin, used := time.Now(), consumed(b, cmd.Process.Pid)
		looks, late, oldest := 0, 0, time.Duration(0)
		for time.Since(begin) < lasts {
			time.Sleep(time.Second)
			if err := db.Read(ctx, func(tx *store.Tx) error {
				return tx.Each(func(scan func(...any) error) error {
					var at int64
					err := scan(&at)
					age := time.Since(store.FromMillis(at))
					looks++
					oldest = max(oldest, age)
					if age > link.SilentAfter {
						late++
					}
					return err
				}, "SELECT contact FROM appliance_live")
			}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((consumed(b, cmd.Process.Pid)-used).Seconds()/time.Since(begin).Seconds()*100, "cpu-%")
		b.ReportMetric(resident(b, cmd.Process.Pid)/1e6, "rss-MB")
		b.ReportMetric(float64(looks)/float64(zoneCount*each), "looks-each")
		b.ReportMetric(float64(late), "late")
		b.ReportMetric(oldest.Seconds(), "oldest-s")
	}
}

// consumed is a process's processor time (proc(5), fields 14 and 15).
func consumed(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		b.Fatalf("stat %q", text)
	}
	return time.Duration(user+system) * (time.Second / 100)
}

// resident is a process's memory in bytes (proc(5), statm).
func resident(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages * os.Getpagesize())
}
