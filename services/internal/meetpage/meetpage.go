// Package meetpage is the page on which people meet: what a controller serves on
// 443, and the scripts that run in it. So far it has the page's end of the session
// of package signal (assets/session.js).
package meetpage
