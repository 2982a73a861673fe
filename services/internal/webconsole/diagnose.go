package webconsole

import (
	"github.com/parley-meet/parley/services/internal/account"
)

// diagnosePages are the tools that look at the network from the appliance.
func (c *Console) diagnosePages() []page {
	return []page{{Path: "/diagnostics", Section: "diagnostics", Title: "nav.diagnostics", Template: "diagnostics", Need: account.Operate, Load: c.diagnosePage}}
}

// tool is a form of the page.
type tool struct {
	Name, Title, Text, Action string
	Host, Port, Proxy, DNS    bool
	Example                   string // of a host
}

type diagnoseData struct {
	Tools []tool
	Types []option
}

func (c *Console) diagnosePage(k *call) (any, error) {
	w := k.words
	d := diagnoseData{Types: []option{{Value: "", Label: w.T("diag.type.addresses")}}}
	for _, t := range []string{"A", "AAAA", "CNAME", "MX", "TXT", "NS", "PTR", "SRV"} {
		d.Types = append(d.Types, option{Value: t, Label: t})
	}
	gateway := "192.0.2.1"
	if st, err := k.admin().Network(k.ctx()); err == nil && st.State.Gateway.IsValid() {
		gateway = st.State.Gateway.String()
	}
	for _, t := range []tool{
		{Name: "ping", Host: true, Example: gateway},
		{Name: "traceroute", Host: true, Example: gateway},
		{Name: "lookup", Host: true, DNS: true, Example: "portal.example.com"},
		{Name: "tls", Host: true, Port: true, Proxy: true, Example: "portal.example.com"},
		{Name: "port", Host: true, Port: true, Proxy: true, Example: "portal.example.com"},
		{Name: "counters"},
	} {
		t.Title, t.Text, t.Action = w.T("diag."+t.Name), w.T("diag."+t.Name+".text"), w.T("diag."+t.Name+".do")
		d.Tools = append(d.Tools, t)
	}
	return d, nil
}
