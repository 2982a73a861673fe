package config

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration, spelled "100ms" in JSON (time.ParseDuration).
type Duration time.Duration

// Or returns d, or def when d is zero.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON spells d as time.Duration.String does.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON takes a string only: a bare number would not say its unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s: want a duration such as \"100ms\"", b)
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%s: want a duration such as \"100ms\"", quote(s))
	}
	*d = Duration(t)
	return nil
}
