package kube

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"strings"
)

// The two forms of an object. crd.projectcalico.org/v1 is what Calico keeps its resources in where its own API server,
// or calicoctl, shows them as projectcalico.org/v3: the metadata that a person sees is JSON in an annotation, and the
// object's own has just what the API server needs: name, namespace, resourceVersion, UID, and labels and annotations
// with Calico's prefix. An object without the annotation shows the metadata that it has. UIDs have the bits of each byte
// turned round but in those that say what a UUID is, so that no two objects share one.
//
// Only what differs is taken apart; a spec passes through as it was written, numbers of 64 bits included.

// metadataAnnotation holds the v3 metadata of an object in v1.
const metadataAnnotation = "projectcalico.org/metadata"

// raw is a JSON object of which some fields are looked at.
type raw map[string]json.RawMessage

// get reads a field into v; one that is not there leaves v as it is.
func (r raw) get(name string, v any) error {
	if r[name] == nil {
		return nil
	}
	if err := json.Unmarshal(r[name], v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// set writes a field, or removes it when v is an empty text, map or list.
func (r raw) set(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only texts, and maps and lists of them, come here
	}
	switch string(b) {
	case `""`, "null", "{}", "[]":
		delete(r, name)
	default:
		r[name] = b
	}
}

// text is a field that is a text, or "".
func (r raw) text(name string) (s string) {
	_ = r.get(name, &s)
	return s
}

// copyTo copies fields that are there.
func (r raw) copyTo(to raw, names ...string) {
	for _, name := range names {
		if v := r[name]; v != nil && string(v) != "null" {
			to[name] = v
		}
	}
}

// toV3 turns an object, or a list of them, of v1 into its form in v3. Others pass as they are.
func toV3(b []byte) ([]byte, error) {
	var o raw
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, err
	}
	if o.text("apiVersion") != GroupV1 {
		return b, nil
	}
	kind, list := strings.CutSuffix(o.text("kind"), "List")
	if k, ok := kindInV1(kind); ok {
		kind = k.Kind
	}
	o.set("apiVersion", GroupV3)
	if !list {
		o.set("kind", kind)
		if err := objectToV3(o, kind); err != nil {
			return nil, fmt.Errorf("read %s from %s: %w", kind, GroupV1, err)
		}
		return json.Marshal(o)
	}
	o.set("kind", kind+"List")
	var items []json.RawMessage
	if err := o.get("items", &items); err != nil {
		return nil, err
	}
	for i := range items {
		var err error
		if items[i], err = toV3(items[i]); err != nil {
			return nil, err
		}
	}
	if len(items) > 0 {
		o.set("items", items)
	}
	return json.Marshal(o)
}

func objectToV3(o raw, kind string) error {
	if kind == "BlockAffinity" {
		if err := respec(o, func(spec raw) { spec["deleted"] = json.RawMessage(fmt.Sprint(spec.text("deleted") == "true")) }); err != nil {
			return err
		}
	}
	var m, stored raw
	var annotations, labels map[string]string
	for _, err := range []error{o.get("metadata", &m), m.get("annotations", &annotations), m.get("labels", &labels)} {
		if err != nil {
			return err
		}
	}
	m.set("uid", turned(m.text("uid")))
	if text, ok := annotations[metadataAnnotation]; ok {
		if err := json.Unmarshal([]byte(text), &stored); err != nil {
			return fmt.Errorf("annotation %s: %w", metadataAnnotation, err)
		}
		delete(annotations, metadataAnnotation)
		for _, err := range []error{stored.get("annotations", &annotations), stored.get("labels", &labels)} { // into what there is
			if err != nil {
				return fmt.Errorf("annotation %s: %w", metadataAnnotation, err)
			}
		}
		name := stored.text("name")
		if k, _ := KindOf(kind); name == "" {
			name = m.text("name")
			var spec struct{ Tier string }
			if err := o.get("spec", &spec); err == nil && k.tiered() && (spec.Tier == "" || spec.Tier+"." == defaultTier) {
				name = strings.TrimPrefix(name, defaultTier)
			}
		}
		if t := stored.text("creationTimestamp"); t == "" {
			m.copyTo(stored, "creationTimestamp")
		}
		m.copyTo(stored, "namespace", "resourceVersion", "uid", "finalizers", "deletionTimestamp", "deletionGracePeriodSeconds")
		stored.set("name", name)
		if err := reown(stored, GroupV1, GroupV3); err != nil {
			return err
		}
		m = stored
	}
	m.set("annotations", annotations)
	m.set("labels", labels)
	o["metadata"], _ = json.Marshal(m)
	return nil
}

// toV1 turns an object of v3 into its form in v1. name is what the request calls it, "" when it is only now created.
func toV1(b []byte, k Kind, name string) ([]byte, error) {
	var o, m raw
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, err
	}
	if o.text("apiVersion") != GroupV3 {
		return b, nil
	}
	kind, _ := k.inV1()
	o.set("apiVersion", GroupV1)
	o.set("kind", kind)
	if k.Kind == "BlockAffinity" {
		err := respec(o, func(spec raw) { spec.set("deleted", fmt.Sprint(string(spec["deleted"]) == "true")) })
		if err != nil {
			return nil, err
		}
	}
	var annotations, labels map[string]string
	for _, err := range []error{o.get("metadata", &m), m.get("annotations", &annotations), m.get("labels", &labels)} {
		if err != nil {
			return nil, err
		}
	}
	if m == nil {
		m = raw{}
	}
	if err := reown(m, GroupV3, GroupV1); err != nil {
		return nil, err
	}
	own := raw{}
	m.copyTo(own, "name", "generateName", "namespace", "resourceVersion", "finalizers")
	own.set("uid", turned(m.text("uid")))
	if name != "" {
		own.set("name", name)
	}
	for _, gone := range []string{"namespace", "resourceVersion", "uid", "generation", "managedFields", "selfLink", "generateName"} {
		delete(m, gone)
	}
	if !k.tiered() || strings.HasPrefix(m.text("name"), defaultTier) {
		delete(m, "name")
	}
	if m["creationTimestamp"] == nil {
		m["creationTimestamp"] = json.RawMessage("null")
	}
	stored, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	annotations = calicos(annotations)
	annotations[metadataAnnotation] = string(stored)
	own.set("annotations", annotations)
	own.set("labels", calicos(labels))
	o["metadata"], _ = json.Marshal(own)
	return json.Marshal(o)
}

// calicos are the labels or annotations that an object in v1 has itself, too.
func calicos(all map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		if strings.Contains(k, "projectcalico.org/") || strings.Contains(k, "operator.tigera.io/") {
			out[k] = v
		}
	}
	return out
}

// respec changes an object's spec.
func respec(o raw, change func(spec raw)) error {
	var spec raw
	if err := o.get("spec", &spec); err != nil || spec == nil {
		return err
	}
	change(spec)
	b, err := json.Marshal(spec)
	o["spec"] = b
	return err
}

// reown changes the owners that are our resources from one group to the other.
func reown(m raw, from, to string) error {
	var owners []raw
	if err := m.get("ownerReferences", &owners); err != nil {
		return err
	}
	for _, o := range owners {
		if o.text("apiVersion") == from {
			o.set("apiVersion", to)
			o.set("uid", turned(o.text("uid")))
		}
	}
	m.set("ownerReferences", owners)
	return nil
}

// turned is the UID in the other form. What is no UUID stays.
func turned(uid string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(uid, "-", ""))
	if err != nil || len(b) != 16 {
		return uid
	}
	for i := range b {
		if i != 6 && i != 8 { // version and variant
			b[i] = bits.Reverse8(b[i])
		}
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
