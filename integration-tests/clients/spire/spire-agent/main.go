// Command spire-agent is SPIRE's own agent: the stories let it live with a Writ server.
package main

import (
	"context"
	"os"

	"github.com/spiffe/spire/cmd/spire-agent/cli"
)

func main() { os.Exit(new(cli.CLI).Run(context.Background(), os.Args[1:])) }
