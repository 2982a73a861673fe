package judge

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// CycloneDX fails the test unless the bill of materials is valid by the schema
// of CycloneDX 1.5, with its formats, and CycloneDX's own reader takes it. The
// schema is in that reader's module.
func CycloneDX(t testing.TB, bill []byte) *cyclonedx.BOM {
	t.Helper()
	if err := validate(t, bill); err != nil {
		t.Errorf("schema: %#v", err)
	}
	bom := new(cyclonedx.BOM)
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(bill), cyclonedx.BOMFileFormatJSON).Decode(bom); err != nil {
		t.Errorf("CycloneDX: %v", err)
	}
	return bom
}

// InvalidCycloneDX fails the test if the bill is valid.
func InvalidCycloneDX(t testing.TB, bill []byte) {
	t.Helper()
	if err := validate(t, bill); err == nil {
		t.Error("the schema takes it")
	}
}

func validate(t testing.TB, bill []byte) error {
	t.Helper()
	dir := filepath.Join(strings.TrimSpace(Run(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go")), "schema")
	const base = "http://cyclonedx.org/schema/"
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for name, file := range map[string]string{
		"bom-1.5.schema.json":  "bom-1.5.schema.json",
		"spdx.schema.json":     "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource(base+name, doc); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile(base + "bom-1.5.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(bill))
	if err != nil {
		return err
	}
	return schema.Validate(doc)
}
