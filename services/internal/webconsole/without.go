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

func (WithoutCertificates) Bundle(context.Context, admin.Actor, io.Writer) error { return errWithout }
