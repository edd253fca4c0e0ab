package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// dial opens a lazily connected channel to a Unix socket.
func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// open starts FetchX509SVID with the header that the standard asks for.
func open(ctx context.Context, conn *grpc.ClientConn) (grpc.ServerStreamingClient[workload.X509SVIDResponse], error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	return workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
}

// first takes one answer and ends the stream.
func first(conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := open(ctx, conn)
	if err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err == nil && len(answer.Svids) == 0 {
		err = errors.New("an answer without any SVID")
	}
	return err
}

// fetch: each client again and again connects, takes its first SVID and disconnects.
func fetch(args []string) (any, error) {
	flags := flag.NewFlagSet("fetch", flag.ExitOnError)
	socket := flags.String("socket", "", "the Workload API's Unix socket")
	clients := flags.Int("clients", 1, "how many at once")
	seconds := flags.Float64("seconds", 2, "how long")
	count := flags.Int("count", 0, "stop each client after so many; 0 means by time only")
	reuse := flags.Bool("reuse", false, "one connection for each client, a new stream each time")
	lean := flags.Bool("lean", false, "speak HTTP/2 frames instead of using a gRPC library")
	_ = flags.Parse(args)
	begun, err := opening()
	if err != nil {
		return nil, err
	}

	return together(*clients, 1, *seconds, func(end time.Time) ([]time.Duration, error) {
		if *lean {
			return repeat(end, *count, func() error { return leanly(*socket, begun) })
		}
		return client(*socket, end, *count, *reuse)
	})
}

// client fetches by gRPC; without reuse each time over a connection of its own.
func client(socket string, end time.Time, count int, reuse bool) ([]time.Duration, error) {
	var conn *grpc.ClientConn
	return repeat(end, count, func() (err error) {
		if conn == nil {
			if conn, err = dial(socket); err != nil {
				return err
			}
		}
		if err = first(conn); err != nil || reuse {
			return err
		}
		err = conn.Close()
		conn = nil
		return err
	})
}

// repeat does something until the time is over, or so many times where count is not 0.
func repeat(end time.Time, count int, do func() error) (took []time.Duration, err error) {
	for time.Now().Before(end) && (count == 0 || len(took) < count) {
		start := time.Now()
		if err := do(); err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// streams opens many streams, each on a connection of its own, says so and holds them.
func streams(args []string) (any, error) {
	flags := flag.NewFlagSet("streams", flag.ExitOnError)
	socket := flags.String("socket", "", "the Workload API's Unix socket")
	count := flags.Int("count", 1000, "how many")
	seconds := flags.Float64("seconds", 2, "how long to hold them")
	_ = flags.Parse(args)
	var took []time.Duration
	start := time.Now()
	for range *count {
		begun := time.Now()
		conn, err := dial(*socket)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		stream, err := open(context.Background(), conn)
		if err != nil {
			return nil, err
		}
		if _, err = stream.Recv(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
	}
	result := of(took, 1, time.Since(start))
	fmt.Println(`{"open":true}`)
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	return result, nil
}

// waiting: a process without identity is refused, asks again and waits; how soon does an entry reach it?
func waiting(args []string) (any, error) {
	flags := flag.NewFlagSet("waiting", flag.ExitOnError)
	admin, parent, selector := adminFlags(flags)
	socket := flags.String("socket", "", "the Workload API's Unix socket")
	rounds := flags.Int("rounds", 100, "how many entries to create and delete")
	_ = flags.Parse(args)
	registry, err := connect(*admin, *parent, *selector)
	if err != nil {
		return nil, err
	}
	var refused, reached, ended []time.Duration
	start := time.Now()
	for round := range *rounds {
		err := func() error {
			conn, err := dial(*socket)
			if err != nil {
				return err
			}
			defer conn.Close()
			begun := time.Now()
			if err := first(conn); status.Code(err) != codes.PermissionDenied {
				return fmt.Errorf("a process without identity was not refused: %v", err)
			}
			refused = append(refused, time.Since(begun))
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			stream, err := open(ctx, conn)
			if err != nil {
				return err
			}
			answered := make(chan error, 2)
			go func() {
				_, err := stream.Recv()
				answered <- err
				for err == nil {
					_, err = stream.Recv()
				}
				answered <- err
			}()
			begun = time.Now()
			id, err := registry.create(fmt.Sprintf("/waiting/%d", round))
			if err != nil {
				return err
			}
			if err := <-answered; err != nil {
				return fmt.Errorf("the waiting client was not served: %w", err)
			}
			reached = append(reached, time.Since(begun))
			begun = time.Now()
			if err := registry.delete(id); err != nil {
				return err
			}
			if err := <-answered; status.Code(err) != codes.PermissionDenied {
				return fmt.Errorf("the stream of a process that lost its last identity went on: %v", err)
			}
			ended = append(ended, time.Since(begun))
			return nil
		}()
		if err != nil {
			return nil, err
		}
	}
	whole := time.Since(start)
	return map[string]figures{
		"refused": of(refused, 1, whole), "reached": of(reached, 1, whole), "ended": of(ended, 1, whole),
	}, nil
}
