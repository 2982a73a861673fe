package bus

import "time"

// SetRenewWithin shortens how long a certificate that was replaced stays in use.
func SetRenewWithin(c *Conn, d time.Duration) { c.renewWithin = d }
