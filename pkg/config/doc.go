// Package config knows every parameter that a person can set, where it comes from, and what a bad value is.
//
// Variables are the environment that counts for one run of the agent (a ConfigMap reaches the agent as environment): Read
// turns them into Config, and refuses bad ones all at once. Parameters are Felix's, with Calico's names: each is looked for
// in the environment (FELIX_ and the name in capitals), then in the FelixConfiguration node.<name>, then in the one named
// default, then here. Resolve does that anew whenever a resource changed, and the agent applies the result without a
// restart. A value that is bad is a fault that names its source, the field and what it may be, and the next source counts
// instead. Calico's other parameters are known by name and have no effect; a name that nobody knows is a fault, too.
//
// It is pure but for reading the file that CNI_NETWORK_CONFIG_FILE names. manifests/parameters.md is generated from its
// tables (Page).
package config
