package webconsole

import (
	"net/http"
	"reflect"

	"github.com/parley-meet/parley/services/internal/api"
)

// describe returns the OpenAPI description of the table.
func (c *Console) describe() []byte {
	return api.Describe(c.api, api.Info{
		Title:       "Parley appliance",
		Description: "What the console's own pages call. Values are checked one by one; an error names the field. Texts come in the language of Accept-Language.",
		Licence:     "see the appliance's licences",
		Cookie:      sessionCookie,
		CookieText:  "of a login in a browser; a request that changes something must come from the console's own pages",
		TokenText:   "parley_…, made in the console under Users",
		Package:     reflect.TypeFor[Console](),
	})
}

// apiDocument is GET /api/openapi.json.
func (c *Console) apiDocument(k *call) error {
	k.w.Header().Set("Content-Type", "application/json")
	_, err := k.w.Write(c.openapi())
	if err != nil {
		return http.ErrAbortHandler
	}
	return nil
}

// apiPages is the readable description.
func (c *Console) apiPages() []page {
	return []page{{Path: "/api", Section: "system", Title: "api.title", Template: "api", Load: func(k *call) (any, error) {
		var out []apiTopic
		for _, e := range c.api {
			if len(out) == 0 || out[len(out)-1].Name != e.Topic() {
				out = append(out, apiTopic{Name: e.Topic()})
			}
			row := apiRow{Method: e.Method, Path: e.Path, Summary: e.Summary, Need: k.words.T("api.need." + string(e.Need)), Query: e.Query}
			if e.NoToken {
				row.Need += ", " + k.words.T("api.no-token")
			}
			if e.Request != nil {
				row.Request = api.Sample(e.Request)
			}
			out[len(out)-1].Rows = append(out[len(out)-1].Rows, row)
		}
		return out, nil
	}}}
}

type apiTopic struct {
	Name string
	Rows []apiRow
}

type apiRow struct {
	Method, Path, Summary, Need string
	Query                       []api.Param
	Request                     string
}
