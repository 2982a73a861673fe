package transport

import (
	"fmt"
	"log/slog"
)

// logger speaks for the library. What it calls a warning is mostly a packet of a
// peer that has gone, so only its errors are more than debugging.
type logger struct{ log *slog.Logger }

func (logger) Trace(string)                     {}
func (logger) Tracef(string, ...any)            {}
func (logger) Debug(string)                     {}
func (logger) Debugf(string, ...any)            {}
func (logger) Info(string)                      {}
func (logger) Infof(string, ...any)             {}
func (l logger) Warn(msg string)                { l.log.Debug(msg) }
func (l logger) Warnf(format string, a ...any)  { l.log.Debug(fmt.Sprintf(format, a...)) }
func (l logger) Error(msg string)               { l.log.Info(msg) }
func (l logger) Errorf(format string, a ...any) { l.log.Info(fmt.Sprintf(format, a...)) }
