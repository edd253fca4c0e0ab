package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// post asks an HTTP server on a Unix socket the same question again and again, each client over a kept connection.
func post(args []string) (any, error) {
	flags := flag.NewFlagSet("post", flag.ExitOnError)
	socket := flags.String("socket", "", "the server's Unix socket")
	path := flags.String("path", "/", "what is asked")
	body := flags.String("body", "", "with what")
	expect := flags.String("expect", "", "what every answer has in it")
	clients := flags.Int("clients", 1, "how many at once")
	seconds := flags.Float64("seconds", 2, "how long")
	_ = flags.Parse(args)

	var mutex sync.Mutex
	var all []time.Duration
	var failed error
	var group sync.WaitGroup
	start := time.Now()
	end := start.Add(time.Duration(*seconds * float64(time.Second)))
	for range *clients {
		group.Add(1)
		go func() {
			defer group.Done()
			dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
			}
			client := http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 10 * time.Second}
			took, err := repeat(end, 0, func() error {
				answer, err := client.Post("http://server"+*path, "application/json", bytes.NewBufferString(*body))
				if err != nil {
					return err
				}
				defer answer.Body.Close()
				said, err := io.ReadAll(answer.Body)
				if err == nil && !bytes.Contains(said, []byte(*expect)) {
					err = fmt.Errorf("status %d: %s", answer.StatusCode, said)
				}
				return err
			})
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, took...)
			failed = errors.Join(failed, err)
		}()
	}
	group.Wait()
	if failed != nil {
		return nil, failed
	}
	return of(all, 1, time.Since(start)), nil
}
