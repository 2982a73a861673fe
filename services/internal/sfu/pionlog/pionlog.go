// Package pionlog lets pion's libraries speak through slog. What they call a
// warning is mostly a packet of a peer that has gone, so warnings are debugging
// here and errors are information; what is below is dropped.
package pionlog

import (
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// Factory implements logging.LoggerFactory.
type Factory struct{ Log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (f Factory) NewLogger(scope string) logging.LeveledLogger {
	return logger{f.Log.With("pion", scope)}
}

type logger struct{ log *slog.Logger }

func (logger) Trace(string)                     {}
func (logger) Tracef(string, ...any)            {}
func (logger) Debug(string)                     {}
func (logger) Debugf(string, ...any)            {}
func (logger) Info(string)                      {}
func (logger) Infof(string, ...any)             {}
func (l logger) Warn(s string)                  { l.log.Debug(s) }
func (l logger) Warnf(format string, a ...any)  { l.log.Debug(fmt.Sprintf(format, a...)) }
func (l logger) Error(s string)                 { l.log.Info(s) }
func (l logger) Errorf(format string, a ...any) { l.log.Info(fmt.Sprintf(format, a...)) }
