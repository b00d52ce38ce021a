package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrNoAgent means that no agent answers on the socket.
var ErrNoAgent = errors.New("no agent runs on this node")

// Ask asks the agent behind a socket for its status.
func Ask(ctx context.Context, socket string) (Status, error) {
	a, err := ask(ctx, socket, "status")
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
	a, err := ask(ctx, socket, "routes")
	if err != nil {
		return nil, fmt.Errorf("ask for routes: %w", err)
	}
	return a.Routes, nil
}

func ask(ctx context.Context, socket, what string) (a answer, err error) {
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
	if _, err := fmt.Fprintf(c, "{\"get\":%q}\n", what); err != nil {
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
