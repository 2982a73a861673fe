// Package axetest has axe-core judge pages in tests: whether a person who hears
// a page, or drives it by keyboard, or sees little, can use it.
//
// axe-core comes from npm (`.ci/setup test` installs it into .ci/browser). On a
// desk without it a test is skipped; where CI is set in the environment that is
// a failure.
package axetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// script is axe-core's, from the module's folder.
const script = ".ci/browser/node_modules/axe-core/axe.min.js"

// Violation is a rule that a page breaks.
type Violation struct {
	Rule   string `json:"id"`
	Impact string `json:"impact"` // "minor" to "critical"
	Help   string `json:"help"`
	Nodes  []struct {
		HTML   string `json:"html"`
		Target []any  `json:"target"` // CSS selectors, of frames too
		Why    string `json:"failureSummary"`
	} `json:"nodes"`
}

func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s", v.Rule, v.Impact, v.Help)
	for _, n := range v.Nodes {
		fmt.Fprintf(&b, "\n  %v  %s\n    %s", n.Target, n.HTML, strings.ReplaceAll(n.Why, "\n", "\n    "))
	}
	return b.String()
}

var source = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(script)))
			return string(b), err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the working directory: %w", fs.ErrNotExist)
		}
		dir = up
	}
})

// Need skips the test (fails it in CI) unless axe-core is installed.
func Need(t testing.TB) {
	t.Helper()
	_, err := source()
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "":
		t.Skip("axe-core is not installed: .ci/setup test")
	default:
		t.Fatalf("axe-core: %v", err)
	}
}

// Run returns what axe-core finds on the page of a chromedp context, as it is
// shown now: the rules of WCAG 2.2 A and AA and axe's best practices. The script
// is evaluated over the debugger's protocol, which a page's Content-Security-Policy
// does not bind.
func Run(ctx context.Context) ([]Violation, error) {
	axe, err := source()
	if err != nil {
		return nil, err
	}
	loaded, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`typeof window.axe === "object"`))
	if err != nil {
		return nil, fmt.Errorf("axe: %w", err)
	}
	if !loaded {
		if err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](axe)); err != nil {
			return nil, fmt.Errorf("load axe: %w", err)
		}
	}
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(async () => {
		const r = await axe.run(document, {resultTypes: ["violations"]});
		if (r.passes.length === 0) throw new Error("no rule was applied");
		return JSON.stringify(r.violations);
	})()`, chromedp.EvalAwaitPromise))
	if err != nil {
		return nil, fmt.Errorf("axe.run: %w", err)
	}
	var found []Violation
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return nil, fmt.Errorf("axe's result: %w", err)
	}
	return found, nil
}

// Check fails the test for each violation on the page, which name tells apart.
func Check(t testing.TB, ctx context.Context, name string) {
	t.Helper()
	found, err := Run(ctx)
	// A page that stays fresh by itself may be loaded anew meanwhile.
	for n := 0; n < 3 && err != nil && strings.Contains(err.Error(), "navigated"); n++ {
		time.Sleep(time.Second)
		found, err = Run(ctx)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, v := range found {
		t.Errorf("%s: %v", name, v)
	}
}
