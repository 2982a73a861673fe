package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// scrapeLimit is how long the database may take for figures.
const scrapeLimit = 2 * time.Second

// counts are figures that the database has; all instances tell the same.
type counts struct{ m *metrics }

var countQueries = []struct {
	desc  *prometheus.Desc
	query string
}{
	{prometheus.NewDesc("parley_portal_mails_waiting", "Mails in the outbox that were not sent.", nil, nil), "SELECT COUNT(*) FROM mails WHERE sent = 0 AND message IS NOT NULL"},
	{prometheus.NewDesc("parley_portal_accounts", "Accounts.", nil, nil), "SELECT COUNT(*) FROM accounts"},
	{prometheus.NewDesc("parley_portal_users", "People.", nil, nil), "SELECT COUNT(*) FROM users"},
}

var (
	appliancesDesc = prometheus.NewDesc("parley_portal_appliances", "Appliances that are enrolled and not revoked.", nil, nil)
	linkedDesc     = prometheus.NewDesc("parley_portal_appliances_linked", "Of these, those that some instance has heard of lately.", nil, nil)
	silentDesc     = prometheus.NewDesc("parley_portal_appliances_silent", "Of these, those that are silent or never linked.", nil, nil)
	alertsDesc     = prometheus.NewDesc("parley_portal_alerts_open", "Alerts of appliances that are open, by code.", []string{"code"}, nil)
)

func (c *counts) Describe(out chan<- *prometheus.Desc) {
	for _, q := range countQueries {
		out <- q.desc
	}
	for _, d := range []*prometheus.Desc{appliancesDesc, linkedDesc, silentDesc, alertsDesc} {
		out <- d
	}
}

func (c *counts) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	n := make([]int64, len(countQueries))
	var l live.Counts
	if err := c.m.db.Read(ctx, func(tx *store.Tx) (err error) {
		for i, q := range countQueries {
			if err := tx.Row(q.query).Scan(&n[i]); err != nil {
				return err
			}
		}
		l, err = live.Count(tx, time.Now())
		return err
	}); err != nil {
		c.m.log.Warn("figures of the database", "error", err)
		return
	}
	tell := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for i, q := range countQueries {
		tell(q.desc, float64(n[i]))
	}
	tell(appliancesDesc, float64(l.Appliances))
	tell(linkedDesc, float64(l.Linked))
	tell(silentDesc, float64(l.Appliances-l.Linked))
	for code, n := range l.Alerts {
		tell(alertsDesc, float64(n), code)
	}
}
