package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
)

// propagate: how soon does a stream that is open see an entry that was created, and lose it again?
// Each time runs from before the request is sent until the stream's message has been read.
func propagate(args []string) (any, error) {
	flags := flag.NewFlagSet("propagate", flag.ExitOnError)
	admin, parent, selector := adminFlags(flags)
	socket := flags.String("socket", "", "the Workload API's Unix socket")
	rounds := flags.Int("rounds", 100, "how many entries to create and delete")
	_ = flags.Parse(args)
	registry, err := connect(*admin, *parent, *selector)
	if err != nil {
		return nil, err
	}
	conn, err := dial(*socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// One identity stays all the while, so that the stream does.
	held, err := registry.create("/propagate/held")
	if err != nil {
		return nil, err
	}
	defer func() { _ = registry.delete(held) }()
	stream, err := openPatiently(conn)
	if err != nil {
		return nil, err
	}
	var created, deleted []time.Duration
	start := time.Now()
	for round := range *rounds {
		path := fmt.Sprintf("/propagate/%d", round)
		begun := time.Now()
		id, err := registry.create(path)
		if err != nil {
			return nil, err
		}
		if err := until(stream, registry.parent.TrustDomain().IDString()+path, true); err != nil {
			return nil, err
		}
		created = append(created, time.Since(begun))
		begun = time.Now()
		if err := registry.delete(id); err != nil {
			return nil, err
		}
		if err := until(stream, registry.parent.TrustDomain().IDString()+path, false); err != nil {
			return nil, err
		}
		deleted = append(deleted, time.Since(begun))
	}
	whole := time.Since(start)
	return map[string]figures{"created": of(created, 1, whole), "deleted": of(deleted, 1, whole)}, nil
}

// openPatiently asks until the first identity is there: the entry was only just made.
func openPatiently(conn *grpc.ClientConn) (grpc.ServerStreamingClient[workload.X509SVIDResponse], error) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		stream, err := open(context.Background(), conn)
		if err == nil {
			if _, err = stream.Recv(); err == nil {
				return stream, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
}

// until reads messages until the ID is there, or no longer.
func until(stream grpc.ServerStreamingClient[workload.X509SVIDResponse], id string, there bool) error {
	for {
		answer, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", id, err)
		}
		if slices.ContainsFunc(answer.Svids, func(s *workload.X509SVID) bool { return s.SpiffeId == id }) == there {
			return nil
		}
	}
}
