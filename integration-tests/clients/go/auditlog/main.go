// Verifies an exported audit log with nothing of Writ's: the checkpoint with golang.org/x/mod/sumdb/note, proofs
// with golang.org/x/mod/sumdb/tlog, from the tiles and bundles of C2SP's tlog-tiles.
//
// auditlog DIR KEY [OLD-CHECKPOINT]: one JSON object with what holds; exit code 1 and a sentence where something
// does not.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) < 3 {
		fail("usage: auditlog DIR KEY [OLD-CHECKPOINT]")
	}
	dir, key := os.Args[1], os.Args[2]
	tree, origin := checkpoint(filepath.Join(dir, "checkpoint"), key)
	log := &exported{dir: dir, size: tree.N}

	entries := log.entries()
	if int64(len(entries)) != tree.N {
		fail("%d entries in the bundles, and %d were signed for", len(entries), tree.N)
	}
	root, err := tlog.TreeHash(tree.N, log)
	check(err)
	if root != tree.Hash {
		fail("the tiles lead to another root than the one that was signed")
	}
	included := 0
	for _, index := range some(tree.N) {
		proof, err := tlog.ProveRecord(tree.N, index, log)
		check(err)
		check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entries[index])))
		included++
	}
	// The whole tree once more, from the entries alone.
	var hashes memory
	for index, entry := range entries {
		stored, err := tlog.StoredHashes(int64(index), entry, &hashes)
		check(err)
		hashes = append(hashes, stored...)
	}
	again, err := tlog.TreeHash(tree.N, &hashes)
	check(err)
	if again != tree.Hash {
		fail("the entries lead to another root than the one that was signed")
	}
	consistent := false
	if len(os.Args) > 3 {
		old, _ := checkpoint(os.Args[3], key)
		proof, err := tlog.ProveTree(tree.N, old.N, log)
		check(err)
		check(tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
		consistent = true
	}
	answer, err := json.Marshal(map[string]any{
		"origin": origin, "entries": tree.N, "included": included, "consistent": consistent,
	})
	check(err)
	fmt.Println(string(answer))
}

// checkpoint opens a signed checkpoint.
func checkpoint(path, key string) (tlog.Tree, string) {
	signed, err := os.ReadFile(path)
	check(err)
	verifier, err := note.NewVerifier(key)
	check(err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != verifier.Name() {
		fail("not a checkpoint of %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	tree := tlog.Tree{N: size}
	if copy(tree.Hash[:], root) != len(tree.Hash) {
		fail("the root is no hash")
	}
	return tree, lines[0]
}

// exported reads hashes from the tiles of an export.
type exported struct {
	dir  string
	size int64
}

// ReadHashes looks each hash up in the tile that has it.
func (log *exported) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		tile := tlog.TileForIndex(8, index)
		hashesOfLevel := log.size >> (8 * tile.L)
		if width := hashesOfLevel - tile.N*256; width < 256 {
			tile.W = int(width)
		} else {
			tile.W = 256
		}
		path := fmt.Sprintf("tile/%d/%s", tile.L, numbered(tile.N, tile.W))
		data, err := os.ReadFile(filepath.Join(log.dir, path))
		if err != nil {
			return nil, err
		}
		if hashes[at], err = tlog.HashFromTile(tile, data, index); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// entries reads every bundle.
func (log *exported) entries() [][]byte {
	var entries [][]byte
	for first := int64(0); first < log.size; first += 256 {
		width := min(log.size-first, 256)
		path := filepath.Join(log.dir, "tile/entries", numbered(first/256, int(width)))
		data, err := os.ReadFile(path)
		check(err)
		for len(data) > 0 {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				fail("%s is cut", path)
			}
			length := int(binary.BigEndian.Uint16(data))
			entries = append(entries, data[2:2+length])
			data = data[2+length:]
		}
	}
	return entries
}

// numbered is the index of a tile as a path.
func numbered(index int64, width int) string {
	path := fmt.Sprintf("%03d", index%1000)
	for index >= 1000 {
		index /= 1000
		path = fmt.Sprintf("x%03d/%s", index%1000, path)
	}
	if width < 256 {
		path += fmt.Sprintf(".p/%d", width)
	}
	return path
}

// some is a few indexes, the first and the last among them.
func some(size int64) []int64 {
	var indexes []int64
	for index := int64(0); index < size; index += max(1, size/100) {
		indexes = append(indexes, index)
	}
	if size > 0 {
		indexes = append(indexes, size-1)
	}
	return indexes
}

// memory holds the hashes of a tree in the order in which they are stored.
type memory []tlog.Hash

// ReadHashes looks them up.
func (hashes *memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		found[at] = (*hashes)[index]
	}
	return found, nil
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, words ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", words...)
	os.Exit(1)
}
