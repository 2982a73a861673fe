package look

import (
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

// Face is what a product looks like: its texts, pages and assets.
type Face struct {
	Dictionary Dictionary
	Pages      *Pages
	Assets     *Assets
}

// NewFace reads the folders words, pages and assets of embedded files, which
// tests have read before.
func NewFace(words, pages, assets fs.FS) *Face {
	a, err := NewAssets(sub(assets, "assets"))
	if err != nil {
		panic(err)
	}
	p, err := NewPages(sub(pages, "pages"), a)
	if err != nil {
		panic(err)
	}
	return &Face{MustLoad(words, "words"), p, a}
}

// Recovered answers for a handler that panicked: net/http would log it where
// nobody looks.
func Recovered(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				path := r.URL.Path
				log.Error("panic", "method", r.Method, "path", path[:min(len(path), 100)], "panic", p)
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// Place returns to when page says that the mux's pattern for it is a page, and
// else "/": a form may name where to go on, but not another site.
func Place(mux *http.ServeMux, to string, page func(pattern string) bool) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(to, "\\\r\n") {
		return "/"
	}
	if _, pattern := mux.Handler(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: u.Path}}); !page(pattern) {
		return "/"
	}
	return u.EscapedPath()
}
