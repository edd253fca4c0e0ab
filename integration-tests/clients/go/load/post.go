package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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

	return together(*clients, 1, *seconds, func(end time.Time) ([]time.Duration, error) {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
		}
		client := http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 10 * time.Second}
		return repeat(end, 0, func() error {
			answer, err := client.Post("http://server"+*path, "application/json", strings.NewReader(*body))
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
	})
}
