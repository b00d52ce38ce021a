package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/margay-net/margay/pkg/model"
)

// entry is one parameter of T.
type entry[T any] struct {
	name  string // of the variable, or of the field in a FelixConfiguration
	def   string // default, as text; "" means that Doc says what happens
	unit  string
	doc   string
	value value[T]
}

// value is how a parameter's text is read.
type value[T any] struct {
	allowed string                     // what a value may be, for people
	set     func(*T, string) (ok bool) // takes a value in
}

func text[T any](field func(*T) *string) value[T] {
	return value[T]{"text", func(t *T, s string) bool { *field(t) = s; return true }}
}

func matching[T any](field func(*T) *string, pattern, allowed string) value[T] {
	re := regexp.MustCompile(pattern)
	return value[T]{allowed, func(t *T, s string) bool { *field(t) = s; return re.MatchString(s) }}
}

func number[T any](field func(*T) *int, low, high int) value[T] {
	return value[T]{fmt.Sprintf("a number from %d to %d", low, high), func(t *T, s string) bool {
		n, err := strconv.Atoi(s)
		*field(t) = n
		return err == nil && low <= n && n <= high
	}}
}

func toggle[T any](field func(*T) *bool) value[T] {
	return value[T]{"true or false", func(t *T, s string) (ok bool) {
		*field(t), ok = readFlag(s)
		return ok
	}}
}

// readFlag reads all that Calico takes for true and false.
func readFlag(s string) (on, ok bool) {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "y", "t", "on", "enabled":
		return true, true
	case "false", "0", "no", "n", "f", "off", "disabled":
		return false, true
	}
	return false, false
}

func choice[T any](field func(*T) *string, allowed ...string) value[T] {
	return value[T]{"one of " + strings.Join(allowed, ", "), func(t *T, s string) bool {
		i := slices.IndexFunc(allowed, func(a string) bool { return strings.EqualFold(a, s) })
		if i >= 0 {
			*field(t) = allowed[i]
		}
		return i >= 0
	}}
}

// choosing is choice for a switch whose two positions have names: the first is on.
func choosing[T any](field func(*T) *bool, on, off string) value[T] {
	return value[T]{"one of " + on + ", " + off, func(t *T, s string) bool {
		*field(t) = strings.EqualFold(s, on)
		return *field(t) || strings.EqualFold(s, off)
	}}
}

// duration reads what Go's durations look like, or a number of seconds.
func duration[T any](field func(*T) *time.Duration, least time.Duration) value[T] {
	return value[T]{fmt.Sprintf("a duration such as 90s or 1m30s, 0 for never, else at least %s", least), func(t *T, s string) bool {
		d, err := time.ParseDuration(s)
		if seconds, numErr := strconv.ParseFloat(s, 64); numErr == nil {
			d, err = time.Duration(seconds*float64(time.Second)), nil
		}
		*field(t) = d
		return err == nil && (d == 0 || d >= least)
	}}
}

func address[T any](field func(*T) *netip.Addr) value[T] {
	return value[T]{"an IPv4 address", func(t *T, s string) bool {
		a, err := netip.ParseAddr(s)
		*field(t) = a
		return err == nil && a.Is4()
	}}
}

// ports reads n, n:m or n-m.
func ports[T any](field func(*T) *model.PortRange) value[T] {
	return value[T]{"a port from 1 to 65535, or a range such as 32768:65535", func(t *T, s string) bool {
		low, high, isRange := strings.Cut(strings.Replace(s, "-", ":", 1), ":")
		if !isRange {
			high = low
		}
		from, err1 := strconv.ParseUint(low, 10, 16)
		to, err2 := strconv.ParseUint(high, 10, 16)
		*field(t) = model.PortRange{Min: uint16(from), Max: uint16(to)}
		return err1 == nil && err2 == nil && 0 < from && from <= to
	}}
}
