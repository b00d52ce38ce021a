package reconcile

import "time"

// Hooks tell somebody, such as a metrics registry, what a reconciler does. Each may be nil.
type Hooks struct {
	// Resynced is called after each full comparison with the kernel; it took d.
	Resynced func(d time.Duration, err error)
	// Applied is called after each pass that mended the difference, also when some of it failed; it took d.
	Applied func(d time.Duration, err error)
}

func (h Hooks) resynced(d time.Duration, err error) {
	if h.Resynced != nil {
		h.Resynced(d, err)
	}
}

func (h Hooks) applied(d time.Duration, err error) {
	if h.Applied != nil {
		h.Applied(d, err)
	}
}
