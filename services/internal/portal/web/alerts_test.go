package web

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/live"
)

// Every alert has words and a figure: whoever adds a code adds both.
func TestAlertCodes(t *testing.T) {
	b, err := os.ReadFile("words/en-monitor.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]string
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	var codes []string
	for key := range all {
		if code, ok := strings.CutPrefix(key, "alert."); ok {
			codes = append(codes, code)
		}
	}
	want := slices.Clone(live.AlertCodes)
	slices.Sort(codes)
	slices.Sort(want)
	if !slices.Equal(codes, want) {
		t.Errorf("words for %v, live.AlertCodes %v", codes, want)
	}
}
