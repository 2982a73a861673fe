// Package router is the program of mmr, the multimedia router. It has no
// configuration to read yet: it says so on its health socket, and opens no port.
package router

import "github.com/parley-meet/parley/services/internal/health"

// Main runs the program with its arguments and returns the exit code.
func Main(args []string) int { return health.Idle("mmr", args) }
