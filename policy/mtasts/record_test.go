package mtasts_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealpost/sealpost/policy/mtasts"
)

const letters32 = "abcdefghijklmnopqrstuvwxyzABCDEF"

// The TXT records at _mta-sts, one a row entry, and the id that counts; or a part of
// the error.
var records = []struct {
	clause string
	txts   []string
	id     string
	err    string
}{
	{"RFC 8461 3.1 the example", []string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z", ""},
	{"3.1 no delimiter at the end", []string{"v=STSv1; id=1"}, "1", ""},
	{"3.1 no space", []string{"v=STSv1;id=1;"}, "1", ""},
	{"3.1 WSP on both sides of the delimiter", []string{"v=STSv1; \t id=1 \t ; \t"}, "1", ""},
	{"3.1 32 letters", []string{"v=STSv1; id=" + letters32 + ";"}, letters32, ""},
	{"3.1 any order", []string{"v=STSv1; foo=bar; id=1;"}, "1", ""},
	{"3.2 unknown fields are ignored", []string{"v=STSv1; id=1; foo=bar; x-y_z.1=!#$%&'()*+,-./:<>?@[]^_`{|}~"}, "1", ""},
	{"3.1 extension name of 32", []string{"v=STSv1; id=1; " + letters32 + "=x"}, "1", ""},
	{"3.2 repeated id: the first", []string{"v=STSv1; id=1; id=2;"}, "1", ""},
	{"3.2 repeated id: whatever the second says", []string{"v=STSv1; id=1; id=not-one;"}, "1", ""},
	{"3.2 repeated version: the first", []string{"v=STSv1; v=STSv2; id=1;"}, "1", ""},
	{"3.1 others are discarded", []string{"v=spf1 -all", "v=STSv1; id=1;", "google-site-verification=x", ""}, "1", ""},
	{"3.1 another version is discarded", []string{"v=STSv2; id=2;", "v=STSv1; id=1;"}, "1", ""},
	{"3.1 a longer version is discarded", []string{"v=STSv10; id=2;", "v=STSv1; id=1;"}, "1", ""},
	{"own: white space before the semicolon (erratum 6285)", []string{"v=STSv1 ; id=1;"}, "1", ""},
	{"own: tab before the semicolon", []string{"v=STSv1\t;id=1"}, "1", ""},
	{"own: white space form loses to the other", []string{"v=STSv1 ; id=2;", "v=STSv1; id=1;"}, "1", ""},
	{"own: white space form beside strangers", []string{"v=spf1 -all", "v=STSv1 ; id=1;"}, "1", ""},
	{"case of the id is kept", []string{"v=STSv1; id=aBc"}, "aBc", ""},

	{"no record at all", nil, "", "no TXT record"},
	{"3.1 strangers only", []string{"v=spf1 -all"}, "", "no TXT record"},
	{"3.1 an empty record", []string{""}, "", "no TXT record"},
	{"3.1 version alone", []string{"v=STSv1"}, "", "no TXT record"},
	{"3.1 %s: the version has its case", []string{"v=stsv1; id=1;"}, "", "no TXT record"},
	{"3.1 %s: so has v", []string{"V=STSv1; id=1;"}, "", "no TXT record"},
	{"3.1 begins with the version: space", []string{" v=STSv1; id=1;"}, "", "no TXT record"},
	{"3.1 begins with the version: another field", []string{"id=1; v=STSv1;"}, "", "no TXT record"},
	{"3.1 begins with the version: quotes", []string{`"v=STSv1; id=1;"`}, "", "no TXT record"},
	{"3.1 version with a space", []string{"v = STSv1; id=1;"}, "", "no TXT record"},
	{"3.1 another delimiter", []string{"v=STSv1, id=1"}, "", "no TXT record"},
	{"3.1 a space for a delimiter", []string{"v=STSv1 id=1"}, "", "no TXT record"},
	{"byte order mark", []string{"\ufeffv=STSv1; id=1;"}, "", "no TXT record"},

	{"3.1 two records", []string{"v=STSv1; id=1;", "v=STSv1; id=2;"}, "", "2 TXT records"},
	{"3.1 two records, one broken", []string{"v=STSv1; id=1;", "v=STSv1;"}, "", "2 TXT records"},
	{"3.1 the same twice", []string{"v=STSv1; id=1;", "v=STSv1; id=1;"}, "", "2 TXT records"},
	{"own: two in the white space form", []string{"v=STSv1 ; id=1;", "v=STSv1\t; id=2;"}, "", "2 TXT records"},
	{"own: a broken one is not mended by the white space form", []string{"v=STSv1;", "v=STSv1 ; id=1;"}, "", "field 2: empty"},

	{"3.1 nothing behind the version", []string{"v=STSv1;"}, "", "field 2: empty"},
	{"3.1 space behind the version", []string{"v=STSv1; "}, "", "field 2: empty"},
	{"3.1 two delimiters", []string{"v=STSv1;; id=1;"}, "", "field 2: empty"},
	{"3.1 two delimiters at the end", []string{"v=STSv1; id=1;;"}, "", "field 3: empty"},
	{"3.1 no id", []string{"v=STSv1; foo=bar;"}, "", "no id"},
	{"3.1 %s: id has its case", []string{"v=STSv1; ID=1;"}, "", "no id"},
	{"3.1 empty id", []string{"v=STSv1; id=;"}, "", "field 2: id has no value"},
	{"3.1 id of 33", []string{"v=STSv1; id=" + letters32 + "1;"}, "", "field 2: id"},
	{"3.1 hyphen in the id", []string{"v=STSv1; id=2016-08-31;"}, "", "field 2: id"},
	{"3.1 underscore in the id", []string{"v=STSv1; id=a_b;"}, "", "field 2: id"},
	{"3.1 dot in the id", []string{"v=STSv1; id=1.0;"}, "", "field 2: id"},
	{"3.1 colon in the id", []string{"v=STSv1; id=10:30;"}, "", "field 2: id"},
	{"3.1 space in the id", []string{"v=STSv1; id=1 2;"}, "", "0x20"},
	{"3.1 quotes around the id", []string{`v=STSv1; id="1";`}, "", "field 2: id"},
	{"3.1 space before the equals sign", []string{"v=STSv1; id =1;"}, "", "field 2: name"},
	{"3.1 space behind the equals sign", []string{"v=STSv1; id= 1;"}, "", "0x20"},
	{"3.1 id with an equals sign", []string{"v=STSv1; id=1=2;"}, "", "0x3d"},
	{"3.1 colon for an equals sign", []string{"v=STSv1; id:1;"}, "", "no equals sign"},
	{"3.2 first id counts, the second is no cure", []string{"v=STSv1; id=a-b; id=1;"}, "", "field 2: id"},
	{"3.1 a field without a value", []string{"v=STSv1; id=1; foo;"}, "", "field 3"},
	{"3.1 an extension without a value", []string{"v=STSv1; id=1; foo=;"}, "", "field 3: foo has no value"},
	{"3.1 an extension without a name", []string{"v=STSv1; id=1; =bar;"}, "", "field 3: name"},
	{"3.1 an extension with an equals sign in its value", []string{"v=STSv1; id=1; foo=a=b;"}, "", "field 3"},
	{"3.1 an extension with a space in its value", []string{"v=STSv1; id=1; foo=a b;"}, "", "field 3"},
	{"3.1 extension name of 33", []string{"v=STSv1; id=1; " + letters32 + "1=x"}, "", "field 3: name"},
	{"3.1 extension name that begins with a hyphen", []string{"v=STSv1; id=1; -foo=x"}, "", "field 3: name"},
	{"3.1 extension name with a star", []string{"v=STSv1; id=1; f*o=x"}, "", "field 3: name"},
	{"3.1 US-ASCII", []string{"v=STSv1; id=1; foo=b\u00e4r;"}, "", "field 3"},
	{"3.1 US-ASCII: id", []string{"v=STSv1; id=\u0661;"}, "", "field 2"},
	{"3.1 NUL", []string{"v=STSv1; id=1\x00;"}, "", "0x00"},
	{"3.1 DEL", []string{"v=STSv1; id=1; a=\x7f;"}, "", "0x7f"},
	{"3.1 a line end is no WSP", []string{"v=STSv1; id=1;\n"}, "", "field 3"},
	{"3.1 WSP at the end without a delimiter", []string{"v=STSv1; id=1 "}, "", "white space at the end"},
	{"3.1 a no-break space is no WSP", []string{"v=STSv1;\u00a0id=1;"}, "", "field 2: name"},
	{"a long one", []string{"v=STSv1; id=1; a=" + strings.Repeat("x", 60000)}, "1", ""},
	{"a long id", []string{"v=STSv1; id=" + strings.Repeat("x", 60000)}, "", "field 2: id"},
}

func TestParseRecords(t *testing.T) {
	t.Parallel()
	for _, c := range records {
		t.Run(c.clause, func(t *testing.T) {
			t.Parallel()
			r, err := mtasts.ParseRecords(c.txts)
			if r.ID != c.id || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: id %q, error %v; want %q, %q", c.txts, r.ID, err, c.id, c.err)
			}
			if errors.Is(err, mtasts.ErrNoRecord) != strings.HasPrefix(c.err, "no TXT record") {
				t.Errorf("%v: is it a missing record or a broken one?", err)
			}
			if err != nil && len(err.Error()) > 300 {
				t.Errorf("an error of %d octets", len(err.Error()))
			}
		})
	}
}

// Whatever stands in DNS: no panic, and what is accepted prints as a record that is
// accepted and says the same.
func FuzzRecord(f *testing.F) {
	for _, c := range records {
		for len(c.txts) < 2 {
			c.txts = append(c.txts, "")
		}
		f.Add(c.txts[0], c.txts[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		r, err := mtasts.ParseRecords([]string{a, b})
		if err != nil {
			if r != (mtasts.Record{}) {
				t.Errorf("%q, %q: an error and a record: %+v", a, b, r)
			}
			return
		}
		again, err := mtasts.ParseRecords([]string{r.String()})
		if err != nil || again != r {
			t.Errorf("%q: %+v, printed %q, read %+v, %v", a, r, r, again, err)
		}
		if _, err := mtasts.ParseRecords([]string{a, b, r.String(), r.String()}); err == nil {
			t.Errorf("%q: counts beside two others", a)
		}
	})
}
