// Command load measures a Workload API and a SPIRE server API from outside. It speaks only what
// SPIFFE and SPIRE publish (and one message of Writ's for signing), so one client measures both.
// Each verb prints one JSON object.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

var verbs = map[string]func([]string) (any, error){
	"fetch":     fetch,
	"jwt":       jwt,
	"propagate": propagate,
	"waiting":   waiting,
	"entries":   entries,
	"sign":      sign,
	"streams":   streams,
	"serve":     serve,
	"floor":     floor,
	"events":    events,
	"actor":     actor,
	"post":      post,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: load fetch|jwt|propagate|waiting|entries|sign|streams|serve|floor|events [flags]")
		os.Exit(2)
	}
	result, err := verbs[os.Args[1]](os.Args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "load %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(result)
}
