package webconsole

import (
	"context"
	"errors"
	"io"

	"github.com/parley-meet/parley/services/internal/admin"
)

// WithoutCertificates is an administrator that says of certificates and
// diagnostics that they are not there.
type WithoutCertificates struct{ *admin.Admin }

var errWithout = errors.Join(admin.ErrAway, errors.New("not available"))

func (WithoutCertificates) Certificate(context.Context) (admin.Certificate, error) {
	return admin.Certificate{}, errWithout
}
func (WithoutCertificates) RequestCertificate(context.Context, admin.Actor, admin.RequestInput) (string, error) {
	return "", errWithout
}
func (WithoutCertificates) InstallCertificate(context.Context, admin.Actor, string, string) error {
	return errWithout
}
func (WithoutCertificates) ResetCertificate(context.Context, admin.Actor) error { return errWithout }
func (WithoutCertificates) Authorities(context.Context) ([]admin.Authority, error) {
	return nil, errWithout
}
func (WithoutCertificates) AddAuthority(context.Context, admin.Actor, string) error {
	return errWithout
}
func (WithoutCertificates) RemoveAuthority(context.Context, admin.Actor, string) error {
	return errWithout
}
func (WithoutCertificates) Bundle(context.Context, admin.Actor, io.Writer) error { return errWithout }
func (WithoutCertificates) Diagnose(context.Context, admin.Actor, admin.DiagnoseInput, func(string) error) error {
	return errWithout
}
