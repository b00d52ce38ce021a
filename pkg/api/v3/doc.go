// Package v3 holds the resource types of the API group projectcalico.org/v3 that Margay serves as native CRDs. The same
// types make the definitions of crd.projectcalico.org/v1, which older clusters have (manifests/crds-v1.yaml).
//
// Names, JSON fields and meanings are Calico's, so that the YAML in every Calico guide applies with plain kubectl.
// Field-level validation lives in the markers beside each field and ends in the CRD schema: a bad value is refused by
// the API server with the field named and the way out. Deepcopy (zz_generated.deepcopy.go) and the CRDs are generated:
// `make generate`.
//
// What a schema cannot see is left to margayctl and the parts that read a resource: pools that overlap, selectors that
// do not parse, references between resources, labels. The API server estimates what rules cost at worst, and refuses a
// definition that could be too slow: that is why lists and strings have limits, some below Calico's (rules of a policy
// 384 instead of 1024; communities of a BGPConfiguration).
//
// In a type's comment gofmt makes a quotation mark of two single quotes: rules there say size(x) == 0.
//
// +groupName=projectcalico.org
// +kubebuilder:object:generate=true
package v3
