// Package selector is the language in which resources say which objects they mean, by the objects' labels: the nodes and
// namespaces of an IPPool, the endpoints of a policy. It is Calico's, word for word:
//
//	k == 'v'   k != 'v'            the value is, is not v
//	k in {'a', 'b'}   k not in {…}   it is, is not one of a set
//	k contains 'v'   k starts with 'v'   k ends with 'v'
//	has(k)                         the label is there, whatever its value
//	all()   global()               always true
//	! x   x && y   x || y   ( x )  in this order of precedence
//
// Strings stand between ' or ", without escapes: one kind of quote can hold the other. Label names are made of letters,
// digits and _ . / -, at most MaxLabel of them; words such as in or has are names, too, wherever a name is expected. Blanks
// and tabs part words and mean nothing else; "notin", "startswith" and "endswith" may be written in one word. A set may be
// empty and may end with a comma. The operators that say "not" (!=, not in) are true where the label is missing.
//
// The empty selector is all(). Where an empty field means something else, as in a policy, its reader says so.
//
// The package is pure. A Selector never changes and may be used by several goroutines.
package selector
