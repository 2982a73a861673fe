package look

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/fault"
)

// Language is a language of the interface, as BCP 47 spells it.
type Language string

// The languages, the default first.
const (
	English Language = "en"
	Russian Language = "ru"
)

// Languages lists them.
var Languages = []Language{English, Russian}

// ParseLanguage returns the language of that name.
func ParseLanguage(s string) (Language, bool) {
	l := Language(s)
	return l, slices.Contains(Languages, l)
}

// Native returns the language's name in itself.
func (l Language) Native() string {
	if l == Russian {
		return "Русский"
	}
	return "English"
}

// Words are the texts of one language. They are read-only, and safe for
// concurrent use.
type Words struct {
	lang Language
	m    map[string]string

	once     sync.Once
	replacer *strings.Replacer // of phrases
}

// Dictionary holds the texts of each language.
type Dictionary map[Language]*Words

// LoadDictionary reads LANGUAGE.json and LANGUAGE-TOPIC.json of each language
// from fsys and lays them over the texts that everything shares. A key that two
// files of one folder have is an error.
func LoadDictionary(fsys fs.FS) (Dictionary, error) {
	d := Dictionary{}
	for _, l := range Languages {
		w := &Words{lang: l, m: map[string]string{}}
		for _, f := range []fs.FS{sub(sharedWords, "words"), sub(fault.Words, "words"), fsys} {
			if err := w.read(f); err != nil {
				return nil, fmt.Errorf("dictionary %s: %w", l, err)
			}
		}
		d[l] = w
	}
	return d, nil
}

// read lays the files of the words' language in fsys over what is there.
func (w *Words) read(fsys fs.FS) error {
	names, err := fs.Glob(fsys, string(w.lang)+"*.json")
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no %s.json", w.lang)
	}
	from := map[string]string{}
	for _, name := range names {
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		var m map[string]string
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for k, text := range m {
			if other, ok := from[k]; ok {
				return fmt.Errorf("%s: %q is in %s too", name, k, other)
			}
			from[k], w.m[k] = name, text
		}
	}
	return nil
}

// MustLoad is LoadDictionary for embedded files, which a test has read.
func MustLoad(fsys fs.FS, dir string) Dictionary {
	sub, err := fs.Sub(fsys, dir)
	if err != nil {
		panic(err)
	}
	d, err := LoadDictionary(sub)
	if err != nil {
		panic(err)
	}
	return d
}

var verb = regexp.MustCompile(`%(\[\d\])?[-+0-9.]*[a-zA-Z%]`)

// Faults lists what a translator forgot: keys that not every language has,
// empty texts, and texts with other verbs than the English one.
func (d Dictionary) Faults() []string {
	var out []string
	for key, en := range d[English].m {
		for _, l := range Languages {
			s, ok := d[l].m[key]
			switch {
			case !ok:
				out = append(out, fmt.Sprintf("%s: %q is missing", l, key))
			case strings.TrimSpace(s) == "":
				out = append(out, fmt.Sprintf("%s: %q is empty", l, key))
			case !slices.Equal(verb.FindAllString(en, -1), verb.FindAllString(s, -1)):
				out = append(out, fmt.Sprintf("%s: %q: verbs of %q, want those of %q", l, key, s, en))
			}
		}
	}
	for _, l := range Languages {
		for key := range d[l].m {
			if _, ok := d[English].m[key]; !ok {
				out = append(out, fmt.Sprintf("%s: %q is not in %s", l, key, English))
			}
		}
	}
	slices.Sort(out)
	return out
}

// Language returns the words' language.
func (w *Words) Language() Language { return w.lang }

// Has reports whether there is a text for the key.
func (w *Words) Has(key string) bool { _, ok := w.m[key]; return ok }

// T returns the text of the key, formatted with args as by fmt.Sprintf when
// there are any. A key without a text stands for itself.
func (w *Words) T(key string, args ...any) string {
	s, ok := w.m[key]
	if !ok {
		return key
	}
	if len(args) > 0 {
		s = fmt.Sprintf(s, args...)
	}
	return s
}

// Or returns the text of prefix+word, or word itself: for words that come from
// outside and may be unknown.
func (w *Words) Or(prefix, word string) string {
	if s, ok := w.m[prefix+word]; ok {
		return s
	}
	return word
}

// Detail translates what services and PID 1 say of themselves, one line: as a
// whole ("detail."+s), or the phrases in it that are known ("phrase."+PHRASE).
func (w *Words) Detail(s string) string {
	if t, ok := w.m["detail."+s]; ok {
		return t
	}
	return w.phrases().Replace(s)
}

// phrases replaces phrases, of those that begin at the same place the longest.
func (w *Words) phrases() *strings.Replacer {
	w.once.Do(func() {
		var list []string
		for k := range w.m {
			if p, ok := strings.CutPrefix(k, "phrase."); ok {
				list = append(list, p)
			}
		}
		slices.SortFunc(list, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
		var pairs []string
		for _, p := range list {
			pairs = append(pairs, p, w.m["phrase."+p])
		}
		w.replacer = strings.NewReplacer(pairs...)
	})
	return w.replacer
}

// State names a service's state.
func (w *Words) State(s control.State) string { return w.Or("state.", string(s)) }

// Title translates a service's title.
func (w *Words) Title(title string) string { return w.Or("title.", title) }

// Role names an appliance's role.
func (w *Words) Role(role string) string { return w.Or("role.", role) }

// Duration says roughly how long, in two units at most: "3 h 12 min".
func (w *Words) Duration(d time.Duration) string {
	d = max(d, 0)
	s, m, h := int(d.Seconds()), int(d.Minutes()), int(d.Hours())
	switch {
	case m == 0:
		return w.T("unit.s", s)
	case h == 0:
		return w.T("unit.min", m)
	case h < 24:
		return w.T("unit.h", h) + " " + w.T("unit.min", m%60)
	}
	if h >= 30*24 {
		return w.T("unit.d", h/24)
	}
	return w.T("unit.d", h/24) + " " + w.T("unit.h", h%24)
}

// Seconds gives a short time with two decimals: "0.42 s".
func (w *Words) Seconds(d time.Duration) string {
	return w.T("unit.seconds", w.decimal(strconv.FormatFloat(d.Seconds(), 'f', 2, 64)))
}

// Bytes gives a size in binary units: "1.2 GiB".
func (w *Words) Bytes(n int64) string {
	units := []string{"unit.B", "unit.KiB", "unit.MiB", "unit.GiB", "unit.TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	prec := 1
	if i == 0 || f >= 100 {
		prec = 0
	}
	return w.T(units[i], w.decimal(strconv.FormatFloat(f, 'f', prec, 64)))
}

// Decimal writes a number with prec digits behind the point, or comma.
func (w *Words) Decimal(f float64, prec int) string {
	return w.decimal(strconv.FormatFloat(f, 'f', prec, 64))
}

func (w *Words) decimal(s string) string {
	if w.lang == Russian {
		return strings.Replace(s, ".", ",", 1)
	}
	return s
}
