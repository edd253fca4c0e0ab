package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// An agent that is told by the kernel that a process is no longer what it was ends the process's
// streams. The process cannot see that itself, so it hands its connection to this program, which reads
// on, and then does what it was told to do.

// patience is how long a stream may stay open after the event.
const patience = 10 * time.Second

// events measures from an event until the stream of its process is closed.
func events(args []string) (any, error) {
	flags := flag.NewFlagSet("events", flag.ExitOnError)
	socket := flags.String("socket", "", "the Workload API's socket")
	kind := flags.String("kind", "exit", "exit, exec, setuid or cgroup")
	rounds := flags.Int("rounds", 100, "how often")
	_ = flags.Parse(args)
	opening, err := opening()
	if err != nil {
		return nil, err
	}
	var group string
	if *kind == "cgroup" {
		if group, err = ownCgroup(); err != nil {
			return nil, err
		}
		defer os.Remove(group)
	}
	var took []time.Duration
	start := time.Now()
	for range *rounds {
		one, err := event(*socket, *kind, group, opening)
		if err != nil {
			return nil, err
		}
		took = append(took, one)
	}
	return of(took, 1, time.Since(start)), nil
}

// event lets one process connect and change, and says how long its stream stayed open afterwards.
func event(socket, kind, group string, opening []byte) (time.Duration, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	own, err := os.Executable()
	if err != nil {
		return 0, err
	}
	actor := exec.Command(own, "actor", "--socket", socket, "--kind", kind)
	actor.ExtraFiles = []*os.File{theirs}
	actor.Stderr = os.Stderr
	if err := actor.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = actor.Process.Kill()
		_ = actor.Wait()
	}()
	conn, err := received(pair[0])
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(opening); err != nil {
		return 0, err
	}
	framer := http2.NewFramer(nil, conn)
	if err := firstMessage(framer); err != nil {
		return 0, err
	}
	begun := time.Now()
	if group != "" {
		err = os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(actor.Process.Pid)), 0)
	} else {
		_, err = ours.Write([]byte{1})
	}
	if err != nil {
		return 0, err
	}
	if err := ended(framer); err != nil {
		return 0, fmt.Errorf("%s: %w", kind, err)
	}
	return time.Since(begun), nil
}

// actor connects, hands the connection over and, when told, becomes another process or none.
func actor(args []string) (any, error) {
	flags := flag.NewFlagSet("actor", flag.ExitOnError)
	socket := flags.String("socket", "", "the Workload API's socket")
	kind := flags.String("kind", "", "what to do")
	_ = flags.Parse(args)
	address := &net.UnixAddr{Name: *socket, Net: "unix"}
	conn, err := net.DialUnix("unix", nil, address)
	if err != nil {
		return nil, err
	}
	file, err := conn.File()
	if err != nil {
		return nil, err
	}
	const parent = 3
	if err := syscall.Sendmsg(parent, []byte{0}, syscall.UnixRights(int(file.Fd())), nil, 0); err != nil {
		return nil, err
	}
	if _, err := syscall.Read(parent, make([]byte, 1)); err != nil {
		return nil, err
	}
	switch *kind {
	case "exit":
		os.Exit(0)
	case "exec":
		return nil, syscall.Exec("/bin/sleep", []string{"sleep", "60"}, nil)
	case "setuid":
		if err := syscall.Setuid(65534); err != nil {
			return nil, err
		}
	}
	time.Sleep(time.Minute)
	return nil, nil
}

// received takes the connection that an actor sends.
func received(from int) (net.Conn, error) {
	space := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := syscall.Recvmsg(from, make([]byte, 1), space, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(space[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("the actor sent no connection")
	}
	files, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(files) != 1 {
		return nil, errors.New("the actor sent no connection")
	}
	file := os.NewFile(uintptr(files[0]), "connection")
	defer file.Close()
	return net.FileConn(file)
}

// firstMessage reads until the first answer is there.
func firstMessage(framer *http2.Framer) error {
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
				return nil
			}
		case *http2.HeadersFrame:
			if frame.StreamEnded() {
				return errors.New("the agent refused")
			}
		}
	}
}

// ended reads until the stream or its connection is closed.
func ended(framer *http2.Framer) error {
	for {
		frame, err := framer.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("the stream is still open %v later", patience)
		}
		if err != nil {
			return nil
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return nil
		case *http2.HeadersFrame:
			if frame.StreamEnded() {
				return nil
			}
		}
	}
}

// ownCgroup makes a cgroup of its own in cgroup v2, wherever that is mounted.
func ownCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			group := filepath.Join(fields[1], fmt.Sprintf("writ-load-%d", os.Getpid()))
			return group, os.Mkdir(group, 0o755)
		}
	}
	return "", errors.New("there is no cgroup v2 here")
}
