package node

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/margay-net/margay/pkg/ctl/connect"
	"github.com/margay-net/margay/pkg/status"
)

// Command is "node".
func Command(_ *connect.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "This node: its agent, its routes, its kernel",
		Long:  "Looks at the node that it runs on, as root: its agent's state and BGP sessions, its routes and why they are there, what its\nkernel can do.",
	}
	cmd.AddCommand(statusCommand(), routesCommand(), checksystemCommand(), diagsCommand())
	return cmd
}

// SocketFlag adds the flag that names the agent's socket.
func SocketFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("socket", status.SocketPath, "The agent's socket.")
}

// NeedRoot is an error for everybody else.
func NeedRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root: run it with sudo")
	}
	return nil
}
