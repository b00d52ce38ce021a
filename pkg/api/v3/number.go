package v3

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// ASNumber is the number of an autonomous system, 1 to 4294967295. YAML may have it as a number or in the dotted form
// of RFC 5396, such as "1.10" for 65546; it is written as a number.
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:Type=""
// +kubebuilder:validation:Format=""
// +kubebuilder:validation:MaxLength=11
// +kubebuilder:validation:XValidation:rule="type(self) != int || (self >= 1 && self <= 4294967295)",message="an AS number is from 1 to 4294967295: leave the field out to say nothing"
// +kubebuilder:validation:XValidation:rule="type(self) != string || (self.matches('^[0-9]{1,10}$') ? int(self) >= 1 && int(self) <= 4294967295 : self.matches('^[0-9]{1,5}[.][0-9]{1,5}$') && self != '0.0' && int(self.split('.')[0]) <= 65535 && int(self.split('.')[1]) <= 65535)",message="an AS number is from 1 to 4294967295, or in two parts of up to 65535, such as \"1.10\""
type ASNumber uint32

// ParseASNumber reads a number or its dotted form.
func ParseASNumber(s string) (ASNumber, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return ASNumber(n), nil
	}
	high, low, dotted := strings.Cut(s, ".")
	h, errHigh := strconv.ParseUint(high, 10, 16)
	l, errLow := strconv.ParseUint(low, 10, 16)
	if !dotted || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("parse AS number %q: want 1 to 4294967295, or two parts of up to 65535 such as 1.10", s)
	}
	return ASNumber(h<<16 | l), nil
}

// UnmarshalJSON reads a number, or a string as ParseASNumber takes it.
func (a *ASNumber) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*uint32)(a)); err == nil {
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("parse AS number %s: want 1 to 4294967295", b)
	}
	n, err := ParseASNumber(s)
	*a = n
	return err
}
