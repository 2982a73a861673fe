// Package house holds the rules of the repository as tests: which package may
// import which, what a file may hold, what a dependency must say. It has no
// code of its own. The tests read the files that git knows, for every platform,
// and go list; a checkout without git cannot run them.
package house
