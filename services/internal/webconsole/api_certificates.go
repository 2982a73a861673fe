package webconsole

import (
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
)

// Pair is a certificate with what belongs to it, in PEM.
type Pair struct {
	Chain string `json:"chain"` // the certificate first
	Key   string `json:"key"`   // "": that of the signing request
}

// PEM is text with certificates.
type PEM struct {
	PEM string `json:"pem"`
}

func (c *Console) certificateEndpoints() []endpoint {
	a := c.cfg.Admin
	return []endpoint{
		api.Get("/api/v1/certificate", "getCertificate", "The certificate in use, and the signing request that waits.", needView,
			func(k *call) (admin.Certificate, error) { return a.Certificate(k.ctx()) }),
		api.Send("POST", "/api/v1/certificate/request", "requestCertificate", "Make a key and a signing request.", needOperate,
			func(k *call, in admin.RequestInput) (PEM, error) {
				pem, err := a.RequestCertificate(k.ctx(), k.who, in)
				return PEM{pem}, err
			}),
		api.SendLarge("PUT", "/api/v1/certificate", "installCertificate", "Take a chain and its key into use.", needOperate,
			func(k *call, in Pair) (admin.Certificate, error) {
				if err := a.InstallCertificate(k.ctx(), k.who, in.Chain, in.Key); err != nil {
					return admin.Certificate{}, err
				}
				return a.Certificate(k.ctx())
			}),
		api.Act("DELETE", "/api/v1/certificate", "resetCertificate", "Go back to a certificate that the appliance signs itself.", needOperate,
			func(k *call) (none, error) { return none{}, a.ResetCertificate(k.ctx(), k.who) }),
		api.Get("/api/v1/authorities", "listAuthorities", "Certificate authorities beside the usual ones.", needView,
			func(k *call) ([]admin.Authority, error) { return a.Authorities(k.ctx()) }),
		api.SendLarge("POST", "/api/v1/authorities", "addAuthority", "Trust the authorities of a PEM text.", needOperate,
			func(k *call, in PEM) (none, error) { return none{}, a.AddAuthority(k.ctx(), k.who, in.PEM) }),
		api.Act("DELETE", "/api/v1/authorities/{sha256}", "removeAuthority", "Trust it no more.", needOperate,
			func(k *call) (none, error) { return none{}, a.RemoveAuthority(k.ctx(), k.who, k.r.PathValue("sha256")) }),
	}
}
