package selector

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type labels = map[string]string

func TestMatches(t *testing.T) {
	long := strings.Repeat("a", MaxLabel)
	for _, c := range []struct {
		text    string
		yes, no []labels
	}{
		{"", []labels{nil, {"a": "b"}}, nil},
		{" \t ", []labels{nil, {"a": "b"}}, nil},
		{" all( ) ", []labels{nil, {"a": "b"}}, nil},
		{"global()", []labels{nil, {"a": "b"}}, nil},
		{`a == "b"`, []labels{{"a": "b"}, {"a": "b", "c": "d"}}, []labels{nil, {"a": "c"}, {"c": "b"}}},
		{`a=='b'`, []labels{{"a": "b"}}, []labels{{"a": "'b'"}}},
		{`a == ''`, []labels{{"a": ""}}, []labels{nil, {"a": "b"}}},
		{`a != "b"`, []labels{nil, {"a": "c"}}, []labels{{"a": "b"}}},
		{`a in {"'", '"', "c"}`, []labels{{"a": "'"}, {"a": `"`}, {"a": "c"}}, []labels{nil, {"a": "d"}, {"a": ""}}},
		{`a in{'b',}`, []labels{{"a": "b"}}, []labels{nil, {"a": ""}}},
		{`a in {}`, nil, []labels{nil, {"a": ""}}},
		{`a not in {}`, []labels{nil, {"a": ""}}, nil},
		{`a not in {'b', 'c'}`, []labels{nil, {"a": "d"}}, []labels{{"a": "b"}, {"a": "c"}}},
		{`a notin {'b'}`, []labels{nil, {"a": "d"}}, []labels{{"a": "b"}}},
		{`a contains 'b'`, []labels{{"a": "abc"}, {"a": "b"}}, []labels{nil, {"a": "ac"}, {"b": "b"}}},
		{`a contains ''`, []labels{{"a": ""}}, []labels{nil}},
		{`a starts with 'b'`, []labels{{"a": "bc"}}, []labels{nil, {"a": "cb"}}},
		{`a startswith'b'`, []labels{{"a": "bc"}}, []labels{nil, {"a": "cb"}}},
		{`a ends  with "b"`, []labels{{"a": "cb"}}, []labels{nil, {"a": "bc"}}},
		{`has(a)`, []labels{{"a": ""}}, []labels{nil, {"b": "a"}}},
		{`has( a )`, []labels{{"a": "x"}}, []labels{nil}},
		{`!has(a)`, []labels{nil}, []labels{{"a": ""}}},
		{`!! ! has(a)`, []labels{nil}, []labels{{"a": ""}}},
		{`!a in {"b"}`, []labels{nil, {"a": "c"}}, []labels{{"a": "b"}}},
		{`!a == 'b' && c == 'd'`, []labels{{"c": "d"}}, []labels{nil, {"a": "b", "c": "d"}}},
		{`a == '1' || b == '1' && c == '1'`, []labels{{"a": "1"}, {"b": "1", "c": "1"}}, []labels{nil, {"b": "1"}, {"c": "1"}}},
		{`(a == '1' || b == '1') && c == '1'`, []labels{{"a": "1", "c": "1"}}, []labels{{"a": "1"}, {"c": "1"}}},
		{`!(has(a) || has(b))`, []labels{nil, {"c": ""}}, []labels{{"a": ""}, {"b": ""}}},
		{`has(a)&&has(b)&&!has(c)`, []labels{{"a": "", "b": ""}}, []labels{{"a": "", "b": "", "c": ""}}},
		{`kubernetes.io/metadata.name == 'kube-system'`, []labels{{"kubernetes.io/metadata.name": "kube-system"}}, []labels{nil}},
		{`a_b-c.d/E9 == 'x'`, []labels{{"a_b-c.d/E9": "x"}}, []labels{nil}},
		// Words of the language are names where a name is expected.
		{`in in {'in'} && has == 'has' && all != 'x' && has(has)`, []labels{{"in": "in", "has": "has"}}, []labels{nil}},
		{`contains contains 'a' && not not in {'b'} && starts starts with 'c'`, []labels{{"contains": "a", "starts": "c"}}, []labels{nil}},
		{`a == '&& || ! ( ) { } , =='`, []labels{{"a": "&& || ! ( ) { } , =="}}, []labels{nil}},
		{`has(` + long + `)`, []labels{{long: ""}}, []labels{nil}},
		{strings.Repeat("(", maxDepth) + "has(a)" + strings.Repeat(")", maxDepth), []labels{{"a": ""}}, []labels{nil}},
	} {
		s, err := Parse(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		for want, list := range map[bool][]labels{true: c.yes, false: c.no} {
			for _, l := range list {
				if s.Matches(l) != want {
					t.Errorf("%s: matches %v: want %t", c.text, l, want)
				}
			}
		}
	}
}

func TestString(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "all()",
		" (all() )":                            "all()",
		"global( )":                            "global()",
		"! (has( b)||! has(a ))":               "!(has(b) || !has(a))",
		`! (a == "b"&&! c != "d")`:             `!(a == "b" && !c != "d")`,
		`a == 'b'`:                             `a == "b"`,
		`a == '"'`:                             `a == '"'`,
		`a startswith "'"`:                     `a starts with "'"`,
		`a endswith'x'`:                        `a ends with "x"`,
		`a contains 'x'`:                       `a contains "x"`,
		`a notin {'c','b','c',}`:               `a not in {"b", "c"}`,
		`a in {}`:                              `a in {}`,
		`has(a) && has(b) && has(c)`:           `(has(a) && has(b) && has(c))`,
		`has(a) || has(b) && (has(c))`:         `(has(a) || (has(b) && has(c)))`,
		`!(!has(a))`:                           `has(a)`,
		`!(!(has(a) && has(b)))`:               `(has(a) && has(b))`,
		`(has(a) || has(b)) || (((has(c))))`:   `((has(a) || has(b)) || has(c))`,
		"\ta\t!=\t'b'\t":                       `a != "b"`,
		`has(a)&&all()`:                        `(has(a) && all())`,
		`projectcalico.org/name starts with''`: `projectcalico.org/name starts with ""`,
	} {
		s, err := Parse(text)
		if err != nil || s.String() != want {
			t.Errorf("%q: got %v, %v, want %s", text, s, err, want)
			continue
		}
		if again, err := Parse(want); err != nil || again.String() != want {
			t.Errorf("%q: its canonical form became %v, %v", text, again, err)
		}
		if s.All() != (want == "all()" || want == "global()") {
			t.Errorf("%q: All() is %t", text, s.All())
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		text string
		at   int
		want string
	}{
		{"b == b", 5, "a string in quotes"},
		{"b contains b", 11, "a string in quotes"},
		{"b starts with b", 14, "a string in quotes"},
		{"b ends with", 11, "a string in quotes"},
		{"'b1' == b", 0, "a label, has(…)"},
		{"b", 1, `an operator (==, !=, in, not in, contains, starts with, ends with) after label "b"`},
		{"a b", 2, `after label "a"`},
		{"a = 'b'", 2, "an operator"},
		{"a inn {'b'}", 2, "an operator"},
		{"a starts 'b'", 2, "an operator"},
		{"a not 'b'", 2, "an operator"},
		{"a ! = 'b'", 2, "an operator"},
		{"a\n== 'b'", 1, "an operator"},
		{"!", 1, "a label, has(…)"},
		{"!= 'b'", 0, "a label before !="},
		{`foo == "bar" &`, 13, "&&, || or the end"},
		{`foo == "bar" | has(a)`, 13, "&&, || or the end"},
		{`foo != ||`, 7, "a string in quotes"},
		{`foo in {"", ||`, 12, "a string in quotes"},
		{`foo in {"a" "b"}`, 12, ", or }"},
		{`foo in {"a"`, 11, ", or }"},
		{`foo in {`, 8, "a string in quotes"},
		{`foo in {,}`, 8, "a string in quotes"},
		{`foo in ""`, 7, "a set such as"},
		{`a == "FOO`, 5, `a closing "`},
		{`a == 'FOO"`, 5, `a closing '`},
		{`(`, 1, "a label, has(…)"},
		{`(a == "foo"`, 11, "&&, || or )"},
		{`)`, 0, "a label, has(…)"},
		{`()`, 1, "a label, has(…)"},
		{`has(a))`, 6, "&&, || or the end"},
		{`%`, 0, "a label, has(…)"},
		{`a == "b" && %`, 12, "a label, has(…)"},
		{`has(foo) &&`, 11, "a label, has(…)"},
		{`has(foo) has(bar)`, 9, "&&, || or the end"},
		{`has(`, 4, "a label"},
		{`has(a b)`, 6, ") after has(a"},
		{`has ('a')`, 4, `after label "has"`},
		{`all`, 3, `after label "all"`},
		{`all(a)`, 4, ") after all("},
		{`global(`, 7, ") after global("},
		{"ä == 'b'", 0, "a label, has(…)"},
		{"has(" + strings.Repeat("a", MaxLabel+1) + ")", 4, "at most 512"},
		{strings.Repeat("(", maxDepth+1) + "has(a)", maxDepth + 1, "at most 1000 parentheses"},
		{strings.Repeat("(", 1<<20), maxDepth + 1, "at most 1000 parentheses"},
	} {
		_, err := Parse(c.text)
		var e *Error
		if !errors.As(err, &e) || e.At != c.at || !strings.Contains(e.Want, c.want) {
			t.Errorf("%.80q: error %v, want one at %d that wants %s", c.text, err, c.at, c.want)
		}
	}
	_, err := Parse(`a == "b" and has(c)`)
	if want := `selector "a == \"b\" and has(c)", character 10: want &&, || or the end, found "and"`; err == nil || err.Error() != want {
		t.Errorf("error\n got %v\nwant %s", err, want)
	}
}

// truth is the slow and obvious evaluator: what a piece of a selector means, made together with its text.
type truth func(labels) bool

// pieces draws a selector's text, in any of the ways to write it, and what it means.
func pieces(t *rapid.T, depth int) (string, truth) {
	blank := func() string { return rapid.SampledFrom([]string{"", " ", "\t ", "  "}).Draw(t, "blank") }
	label := rapid.SampledFrom([]string{"a", "b", "in", "has", "x.y/z-1", "not"}).Draw(t, "label")
	value := func() (string, string) {
		v := rapid.SampledFrom([]string{"", "a", "b", "ab", "ba", "in {", "it's"}).Draw(t, "value")
		if strings.Contains(v, "'") || rapid.Bool().Draw(t, "double") {
			return v, `"` + v + `"`
		}
		return v, "'" + v + "'"
	}
	kind := rapid.IntRange(0, 12).Draw(t, "kind")
	if depth == 0 {
		kind = kind % 9
	}
	op := func(word string, means func(have, v string, ok bool) bool) (string, truth) {
		v, quoted := value()
		return label + " " + word + blank() + quoted + blank(), func(l labels) bool {
			have, ok := l[label]
			return means(have, v, ok)
		}
	}
	set := func(word string, in bool) (string, truth) {
		var vs, texts []string
		for range rapid.IntRange(0, 3).Draw(t, "size") {
			v, quoted := value()
			vs, texts = append(vs, v), append(texts, quoted)
		}
		return label + " " + word + blank() + "{" + blank() + strings.Join(texts, blank()+","+blank()) + blank() + "}" + blank(), func(l labels) bool {
			have, ok := l[label]
			for _, v := range vs {
				if ok && v == have {
					return in
				}
			}
			return !in
		}
	}
	switch kind {
	case 0:
		return op("==", func(have, v string, ok bool) bool { return ok && have == v })
	case 1:
		return op("!=", func(have, v string, ok bool) bool { return !ok || have != v })
	case 2:
		return op("contains", func(have, v string, ok bool) bool { return ok && strings.Contains(have, v) })
	case 3:
		return op("starts with", func(have, v string, ok bool) bool { return ok && strings.HasPrefix(have, v) })
	case 4:
		return op("endswith", func(have, v string, ok bool) bool { return ok && strings.HasSuffix(have, v) })
	case 5:
		return set("in", true)
	case 6:
		return set("not in", false)
	case 7:
		return "has(" + blank() + label + blank() + ")" + blank(), func(l labels) bool { _, ok := l[label]; return ok }
	case 8:
		return rapid.SampledFrom([]string{"all()", "global( )"}).Draw(t, "constant"), func(labels) bool { return true }
	case 9, 10:
		text, is := pieces(t, depth-1)
		return "!" + blank() + "(" + text + ")", func(l labels) bool { return !is(l) }
	default:
		left, x := pieces(t, depth-1)
		right, y := pieces(t, depth-1)
		if kind == 11 {
			return "(" + left + "&&" + blank() + right + ")" + blank(), func(l labels) bool { return x(l) && y(l) }
		}
		return "((" + left + ") ||" + blank() + "(" + right + "))", func(l labels) bool { return x(l) || y(l) }
	}
}

func TestAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, is := pieces(t, 4)
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%s became %v, %v", s, again, err)
		}
		for range 10 {
			l := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "in", "has", "x.y/z-1", "not"}), rapid.SampledFrom([]string{"", "a", "b", "ab", "ba", "in {", "it's"})).Draw(t, "labels")
			if want := is(l); s.Matches(l) != want || again.Matches(l) != want {
				t.Fatalf("%s, labels %v: want %t", text, l, want)
			}
		}
	})
}

// FuzzParse: no text brings the parser down; what parses has a canonical form that parses to itself and means the same; an
// error's place is in the text.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "all()", "global()", `a == "b"`, `a in {"b", 'c'} && !has(d)`, `a not in {} || (b starts with '')`, "!!!has(a)",
		`a contains "b" && (c endswith 'd' || e != "f")`, "((((", "has(a", "a in {'b'", "a == 'b", "&&",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		var e *Error
		if errors.As(err, &e) {
			if e.At < 0 || e.At > len(text) || e.Error() == "" {
				t.Fatalf("error at %d of %q", e.At, text)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q: %s became %v, %v", text, s, again, err)
		}
		for _, l := range []labels{nil, {"a": "b"}, {"a": "", "b": "c", "d": "e"}} {
			if s.Matches(l) != again.Matches(l) {
				t.Fatalf("%q and its canonical form differ on %v", text, l)
			}
		}
	})
}

func TestCache(t *testing.T) {
	var c Cache
	first, err := c.Parse("has(a)")
	if err != nil {
		t.Fatal(err)
	}
	if second, _ := c.Parse("has(a)"); second != first {
		t.Error("the same text was parsed twice")
	}
	if _, err := c.Parse("has("); err == nil {
		t.Error("a bad one is none")
	}
	for i := range 3000 {
		if _, err := c.Parse(fmt.Sprintf("a == '%d'", i)); err != nil || len(c) > 1000 {
			t.Fatalf("after %d texts it has %d: %v", i, len(c), err)
		}
	}
}

const typical = `environment == 'production' && tier in {'web', 'api', 'cache'} && !has(projectcalico.org/excluded)`

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(typical); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatches(b *testing.B) {
	s, err := Parse(typical)
	if err != nil {
		b.Fatal(err)
	}
	l := labels{"environment": "production", "tier": "web", "app": "shop", "projectcalico.org/namespace": "default"}
	b.ReportAllocs()
	for b.Loop() {
		if !s.Matches(l) {
			b.Fatal("no match")
		}
	}
}
