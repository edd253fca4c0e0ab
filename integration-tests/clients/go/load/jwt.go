package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// jwt: each client, over a connection of its own, again and again asks for a token of the same audience
// (`cached`) or of one that nobody has asked for (`fresh`), or has a token judged (`validate`).
func jwt(args []string) (any, error) {
	flags := flag.NewFlagSet("jwt", flag.ExitOnError)
	socket := flags.String("socket", "", "the Workload API's Unix socket")
	what := flags.String("what", "cached", "cached, fresh or validate")
	clients := flags.Int("clients", 8, "how many at once")
	seconds := flags.Float64("seconds", 2, "how long")
	_ = flags.Parse(args)
	start := time.Now()

	var mutex sync.Mutex
	var all []time.Duration
	var failed error
	var ready, group sync.WaitGroup
	begin := make(chan time.Time)
	for number := range *clients {
		ready.Add(1)
		group.Add(1)
		go func() {
			defer group.Done()
			conn, err := dial(*socket)
			var do func() error
			if err == nil {
				defer conn.Close()
				do, err = asking(conn, *what, fmt.Sprintf("%d-%d", start.UnixNano(), number))
			}
			ready.Done()
			end := <-begin
			var took []time.Duration
			if err == nil {
				took, err = repeat(end, 0, do)
			}
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		}()
	}
	// Connected, and with a token at hand: what is measured is the asking.
	ready.Wait()
	begun := time.Now()
	for range *clients {
		begin <- begun.Add(time.Duration(*seconds * float64(time.Second)))
	}
	group.Wait()
	if failed != nil {
		return nil, failed
	}
	return of(all, 1, time.Since(begun)), nil
}

// asking returns what is done again and again, after it was done once.
func asking(conn *grpc.ClientConn, what, name string) (func() error, error) {
	client := workload.NewSpiffeWorkloadAPIClient(conn)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "workload.spiffe.io", "true")
	fetch := func(audience string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		answer, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{audience}})
		if err != nil {
			return "", err
		}
		if len(answer.Svids) == 0 {
			return "", errors.New("an answer without any token")
		}
		return answer.Svids[0].Svid, nil
	}
	token, err := fetch("bench")
	if err != nil {
		return nil, err
	}
	asked := 0
	switch what {
	case "cached":
		return func() error { _, err := fetch("bench"); return err }, nil
	case "fresh":
		return func() error { asked++; _, err := fetch(fmt.Sprintf("%s-%d", name, asked)); return err }, nil
	case "validate":
		return func() error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			answer, err := client.ValidateJWTSVID(ctx, &workload.ValidateJWTSVIDRequest{Audience: "bench", Svid: token})
			if err == nil && answer.SpiffeId == "" {
				err = errors.New("a judgement without a name")
			}
			return err
		}, nil
	}
	return nil, fmt.Errorf("there is no %q", what)
}
