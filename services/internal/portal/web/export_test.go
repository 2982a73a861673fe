package web

import "crypto/tls"

// Trust makes providers of sign-in trusted whose authority a test has made.
func (p *Portal) Trust(c *tls.Config) { p.id.people.Trust(c) }
