// Package webconsole is the administrator's console in a browser: https with a
// login, pages that are rendered on the server and stay fresh by themselves, and
// the HTTP API that the pages themselves use.
//
//	GET  /login                       the form; everything below is behind it
//	POST /login, /logout, /language
//	GET  /, /network, /services …     pages (nav.go)
//	GET  /events                      the overview's changes, as server-sent events
//	     /api/v1/…                    the API (api_*.go), described at /api
//	GET  /healthz, /assets/           for anybody
//
// Everything that a stranger can make grow is bounded: connections in all and
// per address, the size of a header and of a body, passwords that are checked
// at a time, sessions, streams, operations under way. Where a bound is reached
// the comment at the constant says who is turned away.
//
// # Adding a page
//
// A page is a template, a function that loads what it shows, texts, and a line
// in a table. What it changes goes through the API; there are no handlers of
// forms.
//
//   - pages/NAME.html defines "content". Dot is a look.Page: .Data is what Load
//     returned, .T a text, .Operate whether the user may change things. Begin
//     with {{template "head" .}} (heading and, for those who may only look, a
//     sentence that says so), then sections of class "card".
//
//   - words/en-TOPIC.json and words/ru-TOPIC.json have the texts. Keys begin
//     with the topic: "dns.servers". A test compares the two.
//
//   - TOPIC.go has a method that lists the pages, which pages() in nav.go calls:
//
//     func (c *Console) dnsPages() []page {
//     return []page{{Path: "/network/dns", Section: "network", Title: "dns.title", Template: "dns",
//     Load: func(k *call) (any, error) { return k.c.cfg.Admin.Network(k.ctx()) }}}
//     }
//
// Section names the entry of the navigation (sections in nav.go); pages of a
// section are its tabs, in the order of the list; NoTab leaves one out. Need is
// account.Operate for what View may not see either.
//
// Components are in look's pages/parts.html, called with args:
//
//	<form class="card fields" data-api="PUT /api/v1/network" data-done="reload" data-ok="{{.T "saved"}}">
//	  {{template "summary"}}
//	  <fieldset{{if not .Operate}} disabled{{end}}><legend>…</legend>
//	  {{template "field" (args "W" . "name" "eth0.address" "label" (.T "…") "value" .Data.X "hint" (.T "…") "mono" true)}}
//	  {{template "area" (args "W" . "name" "dns.servers" "label" (.T "…") "value" (lines .Data.Y) "list" true)}}
//	  </fieldset>
//	  <p class="buttons"><button class="primary">{{.T "save"}}</button></p>
//	</form>
//
// form.js (of package look) collects the named fields into JSON ("eth0.address" is a path; a
// checkbox is a boolean, or with data-list one value of an array; list makes lines an array; data-type="number" a number),
// sends it, and puts the errors that come back beside their fields. Of a form:
//
//	data-api      method and path; {name} is filled from the field of that name,
//	              which then is not in the body
//	data-body     JSON to send instead of fields
//	data-done     "reload", "stay", or a path to go to; {id} in it is from the
//	              answer
//	data-ok       what to tell afterwards
//	data-confirm  id of a <dialog> to ask with first; the "confirm" template
//	              makes one (args "W" . "id" … "title" … "text" … "action" …);
//	              with "typed" the word must be typed
//	data-stream   id of an element that gets the answer's lines as they come
//	data-show     id of an element to show with the answer; [data-from="key"]
//	              below it get its values
//
// Rows that can be added and removed: a container with data-rows="routes" that
// holds [data-row] elements, whose fields are named for their own part
// ("gateway"), a <template> with an empty one, and buttons with data-add and
// data-remove. It becomes an array of objects, or, with data-rows-map="key,list"
// an object.
//
// # Adding an endpoint
//
// One line in a table in api_TOPIC.go: get, send or raw, with the function that
// does it. The mux, the check of authority, strict decoding and the OpenAPI
// description all come from it.
package webconsole
