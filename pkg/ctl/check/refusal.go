package check

import (
	"errors"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/margay-net/margay/pkg/ctl/manifest"
	"github.com/margay-net/margay/pkg/ctl/resource"
)

// refusals are problems that the API server, or a Node's reader, found.
func refusals(item Item, err error) []*manifest.Problem {
	var problems []*manifest.Problem
	for _, e := range fieldErrors(err) {
		problems = append(problems, item.Problem(e.Field, e.Message))
	}
	if len(problems) > 0 {
		return problems
	}
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		return []*manifest.Problem{item.Problem("", err.Error())}
	}
	details := status.Status().Details
	if details == nil {
		details = &metav1.StatusDetails{}
	}
	if itself := details.Name == item.Object.GetName() && details.Kind != "namespaces"; itself && apierrors.IsNotFound(err) {
		return []*manifest.Problem{item.Problem("", "resource does not exist: create or apply makes it")}
	} else if itself && apierrors.IsAlreadyExists(err) {
		return []*manifest.Problem{item.Problem("", "resource already exists: apply or replace changes it; create --skip-exists passes over it")}
	}
	for _, m := range strictly.FindAllStringSubmatch(status.Status().Message, -1) {
		problems = append(problems, item.Problem(m[2], map[string]string{
			"unknown":   "unknown field: correct its name, or leave it out (kubectl explain " + item.Kind.Plural + " lists the fields)",
			"duplicate": "stands there twice: leave one of the two out",
		}[m[1]]))
	}
	if len(problems) == 0 {
		seen := map[string]bool{}
		for _, cause := range details.Causes {
			message := readable(cause.Message)
			if field := cleanField(cause.Field); message != "" && !seen[field+message] {
				seen[field+message] = true
				problems = append(problems, item.Problem(field, message))
			}
		}
	}
	if len(problems) == 0 {
		return []*manifest.Problem{item.Problem("", err.Error())}
	}
	return problems
}

// fieldErrors are all of an error's, itself or joined.
func fieldErrors(err error) []*resource.FieldError {
	if e := (*resource.FieldError)(nil); errors.As(err, &e) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			var all []*resource.FieldError
			for _, inner := range joined.Unwrap() {
				all = append(all, fieldErrors(inner)...)
			}
			return all
		}
		return []*resource.FieldError{e}
	}
	return nil
}

// strictly finds what the API server's strict decoder lists in one sentence.
var strictly = regexp.MustCompile(`(unknown|duplicate) field "([^"]+)"`)

// ofType is how the API server begins what a rule says; instead of a value there may be just its type.
var ofType = regexp.MustCompile(`^Invalid value: ("?(object|array|string|integer|number|boolean|null)"?: )?`)

// readable leaves out what says nothing to a person.
func readable(message string) string {
	message = ofType.ReplaceAllString(message, "")
	switch {
	case strings.HasPrefix(message, "some validation rules were not checked"):
		return ""
	case strings.Contains(message, " in body must be of type "):
		_, want, _ := strings.Cut(message, " in body must be of type ")
		return "want a value of type " + want
	case strings.Contains(message, " in body should match "):
		_, want, _ := strings.Cut(message, " in body should match ")
		return "has a value of another form: want one that matches " + want
	}
	return message
}

// cleanField takes the API server's name for "the whole object" as none.
func cleanField(field string) string {
	return strings.TrimPrefix(strings.ReplaceAll(field, "<nil>", ""), ".")
}
