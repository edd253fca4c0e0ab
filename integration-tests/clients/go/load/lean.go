package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// On two cores that it shares with the agent, a gRPC library that sets up and takes down a channel for
// each fetch costs several times what the agent does. The lean client speaks the same HTTP/2 frames
// to any agent without it, so that what is measured is the agent.

// opening is all that a client has to say for one FetchX509SVID: the preface, settings, the request's
// headers and its empty message.
func opening() ([]byte, error) {
	var headers bytes.Buffer
	encoder := hpack.NewEncoder(&headers)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", "/SpiffeWorkloadAPI/FetchX509SVID"},
		{":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"},
		{"workload.spiffe.io", "true"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return nil, err
		}
	}
	out := bytes.NewBufferString(http2.ClientPreface)
	framer := http2.NewFramer(out, nil)
	err := errors.Join(
		framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers.Bytes(), EndHeaders: true}),
		framer.WriteData(1, true, make([]byte, 5)),
	)
	return out.Bytes(), err
}

// leanly connects, sends the opening, reads the first message and disconnects.
func leanly(socket string, opening []byte) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(opening); err != nil {
		return err
	}
	framer := http2.NewFramer(nil, conn)
	var message []byte
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			message = append(message, frame.Data()...)
			if len(message) >= 5 && len(message) >= 5+int(binary.BigEndian.Uint32(message[1:5])) {
				var answer workload.X509SVIDResponse
				if err := proto.Unmarshal(message[5:], &answer); err != nil {
					return err
				}
				if len(answer.Svids) == 0 {
					return errors.New("an answer without any SVID")
				}
				return nil
			}
		case *http2.HeadersFrame:
			if frame.StreamEnded() {
				return errors.New("the agent refused")
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return fmt.Errorf("the agent ended it: %v", frame)
		}
	}
}
