package web

import "crypto/tls"

// Trust makes providers of sign-in trusted whose authority a test has made.
func (p *Portal) Trust(c *tls.Config) { p.id.people.Trust(c) }

// PageInfo is a line of the table of pages.
type PageInfo struct{ Path, Need string }

// Pages returns the table of pages.
func (p *Portal) Pages() (out []PageInfo) {
	for _, q := range p.pages {
		out = append(out, PageInfo{q.Path, string(q.Need)})
	}
	return out
}
