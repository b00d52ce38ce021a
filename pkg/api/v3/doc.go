// Package v3 holds the resource types of the API group projectcalico.org/v3 that Margay serves as native CRDs.
//
// Names, JSON fields and meanings are Calico's, so that the YAML in every Calico guide applies with plain kubectl.
// Field-level validation lives in the markers beside each field and ends in the CRD schema: a bad value is refused by
// the API server with the field named. Deepcopy (zz_generated.deepcopy.go) and the CRDs are generated: `make generate`.
//
// +groupName=projectcalico.org
// +kubebuilder:object:generate=true
package v3
