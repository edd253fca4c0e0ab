package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// registry speaks SPIRE's Entry service.
type registry struct {
	client   entryv1.EntryClient
	parent   spiffeid.ID
	selector *types.Selector
}

func adminFlags(flags *flag.FlagSet) (admin, parent, selector *string) {
	return flags.String("admin", "", "the server's Unix socket"),
		flags.String("parent", "", "SPIFFE ID of the node"),
		flags.String("selector", "unix:uid:0", "what the workload is known by")
}

func connect(admin, parent, selector string) (*registry, error) {
	conn, err := dial(admin)
	if err != nil {
		return nil, err
	}
	node, err := spiffeid.FromString(parent)
	if err != nil {
		return nil, err
	}
	kind, value, found := strings.Cut(selector, ":")
	if !found {
		return nil, fmt.Errorf("%q is not a selector", selector)
	}
	return &registry{entryv1.NewEntryClient(conn), node, &types.Selector{Type: kind, Value: value}}, nil
}

func (r *registry) entry(path string, selector *types.Selector) *types.Entry {
	return &types.Entry{
		SpiffeId:  &types.SPIFFEID{TrustDomain: r.parent.TrustDomain().Name(), Path: path},
		ParentId:  &types.SPIFFEID{TrustDomain: r.parent.TrustDomain().Name(), Path: r.parent.Path()},
		Selectors: []*types.Selector{selector},
	}
}

func (r *registry) create(path string) (string, error) {
	ids, err := r.batch([]*types.Entry{r.entry(path, r.selector)})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

func (r *registry) batch(entries []*types.Entry) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answer, err := r.client.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{
		Entries: entries, OutputMask: &types.EntryMask{},
	})
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != len(entries) {
		return nil, fmt.Errorf("%d answers to %d entries", len(answer.Results), len(entries))
	}
	ids := make([]string, 0, len(entries))
	for _, result := range answer.Results {
		if result.Status.Code != int32(codes.OK) {
			return nil, fmt.Errorf("an entry was refused: %s", result.Status.Message)
		}
		ids = append(ids, result.Entry.Id)
	}
	return ids, nil
}

func (r *registry) delete(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answer, err := r.client.BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: []string{id}})
	if err != nil {
		return err
	}
	if code := answer.Results[0].Status.Code; code != int32(codes.OK) {
		return fmt.Errorf("the entry was not deleted: %s", answer.Results[0].Status.Message)
	}
	return nil
}

// entries creates many, in batches, and tells how long the batches took.
func entries(args []string) (any, error) {
	flags := flag.NewFlagSet("entries", flag.ExitOnError)
	admin, parent, _ := adminFlags(flags)
	count := flags.Int("count", 10_000, "how many")
	from := flags.Int("from", 0, "the number of the first one")
	size := flags.Int("batch", 500, "how many in one call")
	_ = flags.Parse(args)
	registry, err := connect(*admin, *parent, "unix:uid:0")
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	start := time.Now()
	for done := 0; done < *count; done += *size {
		batch := make([]*types.Entry, *size)
		for i := range batch {
			number := *from + done + i
			selector := &types.Selector{Type: "unix", Value: fmt.Sprintf("uid:%d", 1_000_000+number)}
			batch[i] = registry.entry(fmt.Sprintf("/load/%d", number), selector)
		}
		begun := time.Now()
		if _, err := registry.batch(batch); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
	}
	return of(took, *size, time.Since(start)), nil
}
