package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pkg is one package with its imports, as `go list -json` names them.
type pkg struct {
	ImportPath                         string
	Dir                                string
	Imports, TestImports, XTestImports []string
}

// walls is the checker behind TestFence. Breaches are sentences.
type walls struct {
	rank      map[string]int
	children  map[string][]string
	siblings  map[string][]string
	fences    map[string]fence
	readOnly  map[string]string
	longFiles map[string]string

	breaches []string
	seenVar  map[string]bool
	seenLong map[string]bool
}

func (w *walls) breach(format string, args ...any) {
	w.breaches = append(w.breaches, fmt.Sprintf(format, args...))
}

// check returns every breach in the module at root, whose packages are pkgs.
func (w *walls) check(root string, pkgs []pkg) []string {
	w.seenVar, w.seenLong = map[string]bool{}, map[string]bool{}
	for _, p := range pkgs {
		name := strings.TrimPrefix(p.ImportPath, modulePath)
		if !w.onTheMap(name) {
			continue
		}
		for _, imported := range p.Imports {
			w.checkImport(name, imported, false)
		}
		tests := slices.Concat(p.TestImports, p.XTestImports)
		slices.Sort(tests)
		for _, imported := range slices.Compact(tests) {
			w.checkImport(name, imported, true)
		}
		w.checkSources(root, name, p.Dir)
	}
	for name := range w.readOnly {
		if !w.seenVar[name] {
			w.breach("%s is listed and is not there: take it off readOnly", name)
		}
	}
	for name := range w.longFiles {
		if !w.seenLong[name] {
			w.breach("%s is listed as long and is not: take it off longFiles", name)
		}
	}
	return w.breaches
}

// split parts a package's name into its room and its place in it ("" for the room's root).
func split(name string) (room, child string) {
	room, child, _ = strings.Cut(name, "/")
	return room, child
}

func (w *walls) onTheMap(name string) bool {
	room, child := split(name)
	if _, ok := w.rank[room]; !ok {
		w.breach("%s is not a room: the five are fixed (ARCHITECTURE.md)", name)
		return false
	}
	if child != "" && !slices.Contains(w.children[room], child) {
		w.breach("%s is not on the map: add it to ARCHITECTURE.md and to children in fence_test.go", name)
		return false
	}
	return true
}

// checkImport judges one edge. inTest: it stands in a test file.
func (w *walls) checkImport(from, to string, inTest bool) {
	who := from
	if inTest {
		who += " (tests)"
	}
	if name, ours := strings.CutPrefix(to, modulePath); ours {
		if name != from && !w.mayLook(from, name, inTest) {
			w.breach("%s imports %s: a package sees its own room's root and the roots of rooms below", who, name)
		}
		return
	}
	if first, _, _ := strings.Cut(to, "/"); !strings.Contains(first, ".") {
		return // the standard library
	}
	if from == "policy" && !inTest {
		w.breach("policy imports %s: the judge has the standard library only", to)
		return
	}
	for module, f := range w.fences {
		if to != module && !strings.HasPrefix(to, module+"/") {
			continue
		}
		allowed := slices.Contains(f.in, from) || slices.Contains(f.in, "*") ||
			inTest && (slices.Contains(f.inTests, from) || slices.Contains(f.inTests, "*"))
		if !allowed {
			w.breach("%s imports %s, which is fenced into %v", who, to, f.in)
		}
		return
	}
	w.breach("%s: %s has no fence: say in fence_test.go who may import it", who, to)
}

// mayLook is the rule of ARCHITECTURE.md, "Who may import whom".
func (w *walls) mayLook(from, to string, inTest bool) bool {
	fromRoom, fromChild := split(from)
	toRoom, toChild := split(to)
	below := w.rank[toRoom] < w.rank[fromRoom]
	switch {
	case fromRoom == "cmd":
		return below // wiring: the one place that knows everybody
	case inTest && strings.HasSuffix(toChild, "test"):
		return below || fromRoom == toRoom // test doubles serve their own room and those above
	case inTest && toRoom == fromRoom && fromChild != "" && toChild == "":
		return true
	case fromRoom == "config":
		return below // the option structs that it fills
	case toChild == "":
		return below || toRoom == fromRoom && fromChild != ""
	default:
		return slices.Contains(w.siblings[from], to)
	}
}

// checkSources reads a package's files for what the import graph does not show.
func (w *walls) checkSources(root, name, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.breach("%s: %v", name, err)
		return
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.IsDir() || filepath.Ext(path) != ".go" {
			continue
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			w.breach("%s: %v", path, err)
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			w.breach("%s: %v", rel, err)
			continue
		}
		w.checkLength(rel, strings.Count(string(src), "\n"))
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, rel, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			w.breach("%v", err)
			continue
		}
		files = append(files, file)
		if name == "policy" {
			w.checkPure(set, file)
		}
	}
	tables := map[string]bool{}
	for _, file := range files {
		w.checkDecls(set, name, file, tables)
	}
	for _, file := range files {
		w.checkWrites(set, name, file, tables)
	}
}

func (w *walls) checkLength(rel string, lines int) {
	if lines <= 500 {
		return
	}
	w.seenLong[rel] = true
	if w.longFiles[rel] == "" {
		w.breach("%s has %d lines: 500 is the limit; split it, or give the reason in longFiles", rel, lines)
	}
}

// impure are the packages that the judge never imports, and impureCalls what it never calls.
func impure() []string {
	return []string{"os", "net", "net/http", "syscall", "io/ioutil", "math/rand", "math/rand/v2", "crypto/rand", "log"}
}

func impureCalls() map[string][]string {
	return map[string][]string{
		"time":        {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
		"crypto/tls":  {"Dial", "DialWithDialer", "Listen", "Client", "Server", "LoadX509KeyPair"},
		"crypto/x509": {"SystemCertPool"},
	}
}

func (w *walls) checkPure(set *token.FileSet, file *ast.File) {
	path := set.Position(file.Package).Filename
	names := map[string]string{} // name in this file -> package
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has seen to it
		}
		if slices.Contains(impure(), imported) || strings.HasPrefix(imported, "os/") {
			w.breach("%s: the judge imports %s: verdicts are values, without I/O, clock or chance", path, imported)
		}
		name := imported[strings.LastIndex(imported, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(impureCalls()[names[x.Name]], sel.Sel.Name) {
			p := set.Position(sel.Pos())
			w.breach("%s:%d: the judge calls %s.%s: the caller gives it the time and the roots", p.Filename, p.Line, names[x.Name], sel.Sel.Name)
		}
		return true
	})
}

// checkDecls looks for init functions and package-level variables; allowed tables go into tables.
func (w *walls) checkDecls(set *token.FileSet, name string, file *ast.File, tables map[string]bool) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				p := set.Position(d.Pos())
				w.breach("%s:%d: init(): main wires by constructors", p.Filename, p.Line)
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				w.checkVar(name, d, spec.(*ast.ValueSpec), tables)
			}
		}
	}
}

func (w *walls) checkVar(name string, decl *ast.GenDecl, spec *ast.ValueSpec, tables map[string]bool) {
	embedded := func(doc *ast.CommentGroup) bool {
		return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
			return strings.HasPrefix(c.Text, "//go:embed ")
		})
	}
	if embedded(decl.Doc) || embedded(spec.Doc) {
		return
	}
	for i, ident := range spec.Names {
		full := name + "." + ident.Name
		switch {
		case ident.Name == "_":
		case i < len(spec.Values) && constantCall(spec.Values[i]):
			tables[ident.Name] = true
		case w.readOnly[full] != "":
			w.seenVar[full] = true
			tables[ident.Name] = true
		default:
			w.breach("%s is package-level state: give it an owner, or list a read-only table in readOnly with its reason", full)
		}
	}
}

// constantCall reports whether the value is an error or a compiled expression: made once, never changed.
func constantCall(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return false
	}
	return slices.Contains([]string{"errors.New", "fmt.Errorf", "regexp.MustCompile"}, x.Name+"."+sel.Sel.Name)
}

// checkWrites finds writes to the package's tables: assignments, ++, and addresses taken.
func (w *walls) checkWrites(set *token.FileSet, name string, file *ast.File, tables map[string]bool) {
	report := func(target ast.Expr) {
		for {
			switch x := target.(type) {
			case *ast.IndexExpr:
				target = x.X
				continue
			case *ast.SelectorExpr:
				target = x.X
				continue
			case *ast.ParenExpr:
				target = x.X
				continue
			case *ast.Ident:
				if tables[x.Name] {
					p := set.Position(x.Pos())
					w.breach("%s.%s is read-only, and written at %s:%d", name, x.Name, p.Filename, p.Line)
				}
			}
			return
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch s := n.(type) {
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				return true // a local of the same name
			}
			for _, target := range s.Lhs {
				report(target)
			}
		case *ast.IncDecStmt:
			report(s.X)
		case *ast.UnaryExpr:
			if s.Op == token.AND {
				report(s.X)
			}
		}
		return true
	})
}

// readPackages makes the pkg list of a folder of sources without the go command, for TestFenceHolds.
func readPackages(t *testing.T, root string) []pkg {
	t.Helper()
	found := map[string]*pkg{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		p := found[rel]
		if p == nil {
			p = &pkg{ImportPath: modulePath + rel, Dir: filepath.Dir(path)}
			found[rel] = p
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if strings.HasSuffix(path, "_test.go") {
				p.TestImports = append(p.TestImports, imported)
			} else {
				p.Imports = append(p.Imports, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for _, p := range found {
		all = append(all, *p)
	}
	return all
}
