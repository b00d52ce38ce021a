package reconcile

import "time"

// Hooks tell somebody, such as a metrics registry, what a reconciler does. Each may be nil. A pass begins with Began and
// ends with Applied, or with Resynced and an error.
type Hooks struct {
	// Began is called before each pass.
	Began func()
	// Resynced is called after each full comparison with the kernel; it took d.
	Resynced func(d time.Duration, err error)
	// Applied is called after each pass that mended the difference, also when some of it failed; it took d.
	Applied func(d time.Duration, err error)
}

func (h Hooks) began() {
	if h.Began != nil {
		h.Began()
	}
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
