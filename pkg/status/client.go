package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// ErrNoAgent means that no agent answers on the socket.
var ErrNoAgent = errors.New("no agent runs on this node")

// Ask asks the agent behind a socket for its status.
func Ask(ctx context.Context, socket string) (Status, error) {
	a, err := ask(ctx, socket, request{Get: "status"})
	if err == nil && a.Status == nil {
		err = errors.New("the agent's answer has no status")
	}
	if err != nil {
		return Status{}, fmt.Errorf("ask for status: %w", err)
	}
	return *a.Status, nil
}

// AskRoutes asks the agent behind a socket for the routes that it wants.
func AskRoutes(ctx context.Context, socket string) ([]Route, error) {
	a, err := ask(ctx, socket, request{Get: "routes"})
	if err != nil {
		return nil, fmt.Errorf("ask for routes: %w", err)
	}
	return a.Routes, nil
}

// AskWay asks the agent behind a socket what it knows of the way to a network; an address is one of full length.
func AskWay(ctx context.Context, socket string, to netip.Prefix) (Found, error) {
	a, err := ask(ctx, socket, request{Get: "way", To: to})
	if err == nil && a.Way == nil {
		err = errors.New("the agent's answer has no way")
	}
	if err != nil {
		return Found{}, fmt.Errorf("ask for the way to %s: %w", to, err)
	}
	return *a.Way, nil
}

func ask(ctx context.Context, socket string, what request) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, idleLimit)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return a, fmt.Errorf("%w: nobody answers on %s", ErrNoAgent, socket)
	case errors.Is(err, os.ErrPermission):
		return a, fmt.Errorf("%w: run this as root", err)
	case err != nil:
		return a, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(idleLimit)); err != nil {
		return a, err
	}
	if err := json.NewEncoder(c).Encode(what); err != nil {
		return a, err
	}
	if err := json.NewDecoder(bufio.NewReader(c)).Decode(&a); err != nil {
		return a, fmt.Errorf("read answer: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}
