package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
)

// floor measures what the machine takes for the least that could be done.
func floor(args []string) (any, error) {
	flags := flag.NewFlagSet("floor", flag.ExitOnError)
	folder := flags.String("dir", os.TempDir(), "where to put the socket and the file")
	rounds := flags.Int("rounds", 2000, "how often")
	_ = flags.Parse(args)
	socket, err := socketFloor(filepath.Join(*folder, "floor.sock"), *rounds)
	if err != nil {
		return nil, err
	}
	disk, err := diskFloor(filepath.Join(*folder, "floor.data"), min(*rounds, 500))
	if err != nil {
		return nil, err
	}
	return map[string]figures{"connect_and_64_bytes": socket, "append_and_sync_4_KiB": disk}, nil
}

// socketFloor connects, sends 64 bytes, reads them back and disconnects.
func socketFloor(path string, rounds int) (figures, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return figures{}, err
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	var took []time.Duration
	start := time.Now()
	for range rounds {
		begun := time.Now()
		conn, err := net.Dial("unix", path)
		if err != nil {
			return figures{}, err
		}
		message := make([]byte, 64)
		if _, err = conn.Write(message); err == nil {
			_, err = io.ReadFull(conn, message)
		}
		conn.Close()
		if err != nil {
			return figures{}, err
		}
		took = append(took, time.Since(begun))
	}
	return of(took, 1, time.Since(start)), nil
}

// diskFloor appends 4 KiB and waits until they are on the disk.
func diskFloor(path string, rounds int) (figures, error) {
	file, err := os.Create(path)
	if err != nil {
		return figures{}, err
	}
	defer os.Remove(path)
	defer file.Close()
	page := make([]byte, 4096)
	var took []time.Duration
	start := time.Now()
	for range rounds {
		begun := time.Now()
		if _, err := file.Write(page); err != nil {
			return figures{}, err
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			return figures{}, err
		}
		took = append(took, time.Since(begun))
	}
	return of(took, 1, time.Since(start)), nil
}

// still answers every caller with the same bytes: what this client and gRPC take without any agent.
type still struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	answer *workload.X509SVIDResponse
}

func (s still) FetchX509SVID(_ *workload.X509SVIDRequest, out grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if err := out.Send(s.answer); err != nil {
		return err
	}
	<-out.Context().Done()
	return nil
}

func serve(args []string) (any, error) {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	socket := flags.String("socket", "", "where to listen")
	_ = flags.Parse(args)
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		return nil, err
	}
	// Ends with whoever started it.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, still{answer: &workload.X509SVIDResponse{
		Svids: []*workload.X509SVID{{
			SpiffeId: "spiffe://still.example/one", X509Svid: make([]byte, 560),
			X509SvidKey: make([]byte, 138), Bundle: make([]byte, 480),
		}},
	}})
	fmt.Println(`{"listening":true}`)
	return nil, server.Serve(listener)
}
