package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

// defaultMux names what uses or would serve net/http's default mux in a file.
// nats-server imports net/http/pprof, which adds itself to that mux in every
// process of the appliance, profiles of the memory and all.
func defaultMux(f *ast.File) (uses []ast.Node) {
	is := func(e ast.Expr, names ...string) bool {
		s, ok := e.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, ok := s.X.(*ast.Ident)
		return ok && pkg.Name == "http" && slices.Contains(names, s.Sel.Name)
	}
	isNil := func(e ast.Expr) bool {
		i, ok := e.(*ast.Ident)
		return ok && i.Name == "nil"
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if is(n, "DefaultServeMux", "Handle", "HandleFunc") {
				uses = append(uses, n)
			}
		case *ast.CallExpr:
			if is(n.Fun, "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS") && slices.ContainsFunc(n.Args, isNil) {
				uses = append(uses, n)
			}
		case *ast.CompositeLit:
			if !is(n.Type, "Server") {
				break
			}
			given := slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					return false
				}
				key, ok := kv.Key.(*ast.Ident)
				return ok && key.Name == "Handler" && !isNil(kv.Value)
			})
			if !given {
				uses = append(uses, n)
			}
		}
		return true
	})
	return uses
}

func TestDefaultMux(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !slices.Contains(s.imports(), "net/http") {
			continue
		}
		for _, n := range defaultMux(s.ast) {
			t.Errorf("%s: the default mux, in which profiles are for everybody: a server says its Handler where it is made", s.fset.Position(n.Pos()))
		}
	}
}

func TestDefaultMuxIsSeen(t *testing.T) {
	for body, want := range map[string]int{
		`http.HandleFunc("/", f)`:                   1,
		`http.Handle("/", h)`:                       1,
		`m := http.DefaultServeMux; _ = m`:          1,
		`http.ListenAndServe(":1", nil)`:            1,
		`http.Serve(l, nil)`:                        1,
		`s := http.Server{Addr: ":1"}; _ = s`:       1,
		`s := &http.Server{Handler: nil}; _ = s`:    1,
		`http.Serve(l, h); mux.Handle("/", h)`:      0,
		`s := &http.Server{Handler: h}; s.Serve(l)`: 0,
		`http.Server(x); new(Server)`:               0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", fmt.Sprintf("package x\nfunc f() { %s }", body), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(defaultMux(f)); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
}
