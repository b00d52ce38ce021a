package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"
)

// busTimeout bounds one talk with the bus.
const busTimeout = 3 * time.Second

// errNotRunning means that nobody owns the name on the bus.
var errNotRunning = errors.New("it does not run")

// call is a call of a method over D-Bus.
type call struct {
	dest   string
	object dbus.ObjectPath
	method string
	args   []any
}

// reload makes the call on the node's system bus. It starts nobody.
func reload(ctx context.Context, run string, c call) error {
	return onBus(ctx, run, func(ctx context.Context, bus *dbus.Conn) error {
		return bus.Object(c.dest, c.object).CallWithContext(ctx, c.method, dbus.FlagNoAutoStart, c.args...).Err
	})
}

// running returns errNotRunning when nobody has that name on the node's system bus.
func running(ctx context.Context, run, name string) error {
	return onBus(ctx, run, func(ctx context.Context, bus *dbus.Conn) error {
		var has bool
		err := bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&has)
		if err == nil && !has {
			return errNotRunning
		}
		return err
	})
}

// onBus calls f with a connection to the node's system bus.
func onBus(ctx context.Context, run string, f func(context.Context, *dbus.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	socket := filepath.Join(run, "dbus/system_bus_socket")
	bus, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket), dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connect to the system bus: %w", err)
	}
	defer bus.Close()
	if err := bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		return fmt.Errorf("log in to the system bus: %w", err)
	}
	if err := bus.Hello(); err != nil {
		return fmt.Errorf("log in to the system bus: %w", err)
	}
	err = f(ctx, bus)
	var said dbus.Error
	if errors.As(err, &said) && (said.Name == "org.freedesktop.DBus.Error.NameHasNoOwner" || said.Name == "org.freedesktop.DBus.Error.ServiceUnknown") {
		return errNotRunning
	}
	return err
}
