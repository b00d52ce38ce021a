package plugin

import (
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// Codes of the plugin's errors. Those below 100 are the specification's, the others its own.
//
//	code  when                                                             agent's word
//	1     cniVersion unknown, or too old for the verb
//	3     the agent does not know this container and interface            Unknown
//	4     an environment variable or CNI_ARGS is wrong
//	6     the standard input is no JSON object
//	7     the configuration is wrong: the message names the field         Invalid
//	8     CNI_NETNS is not there, no network namespace, or the plugin's own
//	11    try again later: the agent is not running, hangs or failed;     NotReady, Internal
//	      DEL: the release could be neither told nor spooled
//	50    STATUS: no ADD can succeed now                                   any but OK
//	100   no free address                                                  Exhausted
//	101   CHECK: what is differs from what was                             Mismatch
//	102   ADD: an interface of that name is there already, and not ours
//	999   the kernel refused
const (
	codeExhausted = 100
	codeMismatch  = 101
	codeTaken     = 102
)

// hintAgent tells how to find out about an agent that does not answer.
const hintAgent = "see `kubectl -n kube-system get pods -l k8s-app=margay-node -o wide` and that pod's log, or this node's journal"

// code translates the agent's word for a failure.
func code(c wire.Code) uint {
	switch c {
	case wire.Invalid:
		return types.ErrInvalidNetworkConfig
	case wire.Exhausted:
		return codeExhausted
	case wire.Unknown:
		return types.ErrUnknownContainer
	case wire.Mismatch:
		return codeMismatch
	default:
		return types.ErrTryAgainLater
	}
}

// cniError makes a CNI error of err. what is the verb and its object, which begin the message unless it is empty. An
// error that is a CNI error already keeps its code and details; the agent's word and a silent agent have codes of their
// own.
func cniError(what string, err error) error {
	if what != "" {
		what += ": "
	}
	var known *types.Error
	var said *wire.Error
	var gone *agentError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return types.NewError(known.Code, what+known.Msg, known.Details)
	case errors.As(err, &said):
		return types.NewError(code(said.Code), what+said.Msg, said.Hint)
	case errors.As(err, &gone):
		return types.NewError(types.ErrTryAgainLater, what+gone.Error(), hintAgent)
	default:
		return types.NewError(types.ErrInternal, what+err.Error(), "")
	}
}

// also adds a second failure, that of doing what, to the details of a CNI error. Either may be nil.
func also(err error, what string, more error) error {
	var known *types.Error
	if more == nil || !errors.As(err, &known) {
		return errors.Join(err, more)
	}
	details := what + ": " + more.Error()
	if known.Details != "" {
		details = known.Details + "; " + details
	}
	return types.NewError(known.Code, known.Msg, details)
}

// agentError means that the agent could not be asked or did not answer as the protocol wants.
type agentError struct {
	do  string // such as "ask agent to assign"
	err error
}

func (e *agentError) Error() string { return fmt.Sprintf("%s: %v", e.do, e.err) }
func (e *agentError) Unwrap() error { return e.err }
