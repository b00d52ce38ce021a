package kube

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// As Calico's tools write and read them.
func TestForms(t *testing.T) {
	for _, c := range []struct{ name, kind, v3, v1 string }{
		{
			"pool with labels of a person and of Calico", "IPPool",
			`{"apiVersion":"projectcalico.org/v3","kind":"IPPool","metadata":{"name":"a","uid":"0bc9f550-55ad-4949-b7b2-843eb1f47c79","resourceVersion":"7",
			  "creationTimestamp":"2026-11-22T08:02:53Z","labels":{"zone":"a","projectcalico.org/x":"y"},"annotations":{"note":"n"}},"spec":{"cidr":"10.0.0.0/8"}}`,
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"name":"a","uid":"d093af0a-aab5-4992-b74d-217c8d2f3e9e","resourceVersion":"7",
			  "labels":{"projectcalico.org/x":"y"},
			  "annotations":{"projectcalico.org/metadata":"{\"annotations\":{\"note\":\"n\"},\"creationTimestamp\":\"2026-11-22T08:02:53Z\",\"labels\":{\"zone\":\"a\",\"projectcalico.org/x\":\"y\"}}"}},
			  "spec":{"cidr":"10.0.0.0/8"}}`,
		},
		{
			"IPAM configuration has another name", "IPAMConfiguration",
			`{"apiVersion":"projectcalico.org/v3","kind":"IPAMConfiguration","metadata":{"name":"default","creationTimestamp":"2026-11-22T08:02:53Z"},"spec":{"strictAffinity":true}}`,
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPAMConfig","metadata":{"name":"default","annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":\"2026-11-22T08:02:53Z\"}"}},"spec":{"strictAffinity":true}}`,
		},
		{
			"affinity's deleted is a text", "BlockAffinity",
			`{"apiVersion":"projectcalico.org/v3","kind":"BlockAffinity","metadata":{"name":"n-10-0-0-0-26","creationTimestamp":"2026-11-22T08:02:53Z"},"spec":{"deleted":true,"state":"confirmed"}}`,
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"BlockAffinity","metadata":{"name":"n-10-0-0-0-26","annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":\"2026-11-22T08:02:53Z\"}"}},"spec":{"deleted":"true","state":"confirmed"}}`,
		},
		{
			"64 bits of a sequence number", "IPAMBlock",
			`{"apiVersion":"projectcalico.org/v3","kind":"IPAMBlock","metadata":{"name":"b","creationTimestamp":"2026-11-22T08:02:53Z"},"spec":{"sequenceNumber":18446744073709551615}}`,
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPAMBlock","metadata":{"name":"b","annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":\"2026-11-22T08:02:53Z\"}"}},"spec":{"sequenceNumber":18446744073709551615}}`,
		},
		{
			"a policy's name is kept beside", "NetworkPolicy",
			`{"apiVersion":"projectcalico.org/v3","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"n","creationTimestamp":"2026-11-22T08:02:53Z"},"spec":{"tier":"default"}}`,
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"n","annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":\"2026-11-22T08:02:53Z\",\"name\":\"p\"}"}},"spec":{"tier":"default"}}`,
		},
		{
			"an owner of ours", "IPPool",
			`{"apiVersion":"projectcalico.org/v3","kind":"IPPool","metadata":{"name":"a","creationTimestamp":"2026-11-22T08:02:53Z",
			  "ownerReferences":[{"apiVersion":"projectcalico.org/v3","kind":"IPPool","name":"o","uid":"0bc9f550-55ad-4949-b7b2-843eb1f47c79"},{"apiVersion":"v1","kind":"Pod","name":"p","uid":"1"}]},"spec":{}}`,
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"name":"a","annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":\"2026-11-22T08:02:53Z\",\"ownerReferences\":[{\"apiVersion\":\"crd.projectcalico.org/v1\",\"kind\":\"IPPool\",\"name\":\"o\",\"uid\":\"d093af0a-aab5-4992-b74d-217c8d2f3e9e\"},{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"p\",\"uid\":\"1\"}]}"}},"spec":{}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, ok := KindOf(c.kind)
			if !ok {
				t.Fatal("no such kind")
			}
			v1, err := toV1([]byte(c.v3), k, "")
			if err != nil {
				t.Fatal(err)
			}
			same(t, v1, []byte(c.v1))
			v3, err := toV3([]byte(c.v1))
			if err != nil {
				t.Fatal(err)
			}
			same(t, v3, []byte(c.v3))
		})
	}
}

// What others have written, and Calico shows.
func TestReadV1(t *testing.T) {
	for _, c := range []struct{ name, v1, v3 string }{
		{
			"no annotation: its own metadata is shown",
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"name":"a","generation":2,"labels":{"x":"y"}},"spec":{}}`,
			`{"apiVersion":"projectcalico.org/v3","kind":"IPPool","metadata":{"name":"a","generation":2,"labels":{"x":"y"}},"spec":{}}`,
		},
		{
			"IPAM objects of Calico, whose annotation has nothing to say",
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPAMHandle","metadata":{"name":"h","creationTimestamp":"2026-11-22T08:02:53Z","generation":2,"managedFields":[],
			  "annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":null}"}},"spec":{}}`,
			`{"apiVersion":"projectcalico.org/v3","kind":"IPAMHandle","metadata":{"name":"h","creationTimestamp":"2026-11-22T08:02:53Z"},"spec":{}}`,
		},
		{
			"a policy of older Calico",
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"GlobalNetworkPolicy","metadata":{"name":"default.p","annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":\"2026-11-22T08:02:53Z\"}"}},"spec":{}}`,
			`{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"p","creationTimestamp":"2026-11-22T08:02:53Z"},"spec":{}}`,
		},
		{
			"an object on its way out",
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"name":"a","deletionTimestamp":"2026-11-22T08:02:53Z","finalizers":["f"],"annotations":{"projectcalico.org/metadata":"{\"creationTimestamp\":\"2026-11-22T08:02:53Z\"}"}},"spec":{}}`,
			`{"apiVersion":"projectcalico.org/v3","kind":"IPPool","metadata":{"name":"a","deletionTimestamp":"2026-11-22T08:02:53Z","finalizers":["f"],"creationTimestamp":"2026-11-22T08:02:53Z"},"spec":{}}`,
		},
		{
			"a list",
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPAMConfigList","metadata":{"resourceVersion":"1"},"items":[{"apiVersion":"crd.projectcalico.org/v1","kind":"IPAMConfig","metadata":{"name":"default"}}]}`,
			`{"apiVersion":"projectcalico.org/v3","kind":"IPAMConfigurationList","metadata":{"resourceVersion":"1"},"items":[{"apiVersion":"projectcalico.org/v3","kind":"IPAMConfiguration","metadata":{"name":"default"}}]}`,
		},
		{
			"an empty list",
			`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPoolList","metadata":{},"items":[]}`,
			`{"apiVersion":"projectcalico.org/v3","kind":"IPPoolList","metadata":{},"items":[]}`,
		},
		{"what is not ours", `{"apiVersion":"v1","kind":"Status","code":404}`, `{"apiVersion":"v1","kind":"Status","code":404}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			v3, err := toV3([]byte(c.v1))
			if err != nil {
				t.Fatal(err)
			}
			same(t, v3, []byte(c.v3))
		})
	}
	for _, bad := range []string{
		`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"annotations":{"projectcalico.org/metadata":"{"}}}`,
		`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"annotations":{"projectcalico.org/metadata":"{\"labels\":3}"}}}`,
		`{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":3}`,
		`nothing`,
	} {
		if out, err := toV3([]byte(bad)); err == nil {
			t.Errorf("%s is read as %s", bad, out)
		}
	}
}

// same compares JSON, and within it the JSON of Calico's annotation; numbers by their text.
func same(t *testing.T, got, want []byte) {
	t.Helper()
	g, w := plain(t, got), plain(t, want)
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func plain(t *testing.T, b []byte) any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if m, ok := v["metadata"].(map[string]any); ok {
		if a, ok := m["annotations"].(map[string]any); ok {
			if s, ok := a[metadataAnnotation].(string); ok {
				a[metadataAnnotation] = plain(t, []byte(s))
			}
		}
	}
	return v
}

func TestTurned(t *testing.T) {
	const a, b = "0bc9f550-55ad-4949-b7b2-843eb1f47c79", "d093af0a-aab5-4992-b74d-217c8d2f3e9e"
	if turned(a) != b || turned(b) != a {
		t.Errorf("%s turned is %s, and that %s", a, turned(a), turned(turned(a)))
	}
	if turned("x") != "x" {
		t.Error("what is no UUID must stay")
	}
}
