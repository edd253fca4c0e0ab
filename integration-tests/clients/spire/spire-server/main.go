// Command spire-server is SPIRE's own server and its command line: the stories let Writ's agent live with the one,
// and drive a Writ server with the other.
package main

import (
	"context"
	"os"

	"github.com/spiffe/spire/cmd/spire-server/cli"
)

func main() { os.Exit(new(cli.CLI).Run(context.Background(), os.Args[1:])) }
