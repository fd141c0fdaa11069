/* Pointers of an object graph, to say later that surely nothing in it changed.

   Theory of operation
   - A walk visits every object once, breadth first, and writes down the words that make up its value: addresses of its
     children, and where a type has one, a number. Atoms (what cannot change) are written down and not visited.
   - A check reads the same objects in the same order and compares words. It stops at the first difference. An object
     was written down after one that refers to it; so when its turn comes, an object just found unchanged refers to it,
     and it is alive. Visited objects need no reference of ours for that: they die when the notebook lets go of them.
   - Another object that was born at the address of a dead one, with the same type and the same words, is the same
     value. That holds only where the words are the whole value; where they are not (atoms, subclasses of int), the
     snapshot owns a reference, so that the address stays taken. Types are owned as well: they say what memory to read.
   - A later snapshot of the same roots, compared with this one object by object, says what is other, new and gone. The
     same holds for addresses there: what has type and words as before is pickled as before, whoever was born there.
   - Nothing here runs code of the notebook: no attribute, no comparison, no hash. The collector is off meanwhile, the
     GIL is held throughout. Only the caller's `leaf` runs code; it runs after a walk or a check is over.

   graph.py and snapshots.py say what the functions here promise; walk.py does the first part of it in Python. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <datetime.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#endif

#if PY_VERSION_HEX < 0x030B0000 || PY_VERSION_HEX >= 0x030F0000 || defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
#error "object layouts of this Python are not known here; the Python implementation is used instead"
#endif

#define MEMBER_OBJECT 6     /* Py_T_OBJECT and its successor, under any of their names */
#define MEMBER_OBJECT_EX 16
#define NOT_OWNED ((uintptr_t)1)

#include "_graph_types.h"
#include "_graph_walk.h"
#include "_graph_difference.h"
#include "_graph_depth.h"
#include "_graph_check.h"
#include "_graph_write.h"
#include "_graph_amend.h"
#include "_graph_alone.h"
#include "_graph_edit.h"
#include "_graph_sets.h"

/* -- taking one */

/* A new snapshot, and in `*found` its difference to `old` unless that is NULL. None if something is opaque. */
static PyObject *take(const Snapshot *old, PyObject *roots, PyObject *live, PyObject *leaf, Py_ssize_t limit,
                      PyObject *atoms, PyObject **found)
{
    Snapshot *s = PyObject_GC_New(Snapshot, snapshot_type);
    if (s == NULL)
        return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->leaf = leaf == Py_None ? NULL : Py_NewRef(leaf);
    Walk w = {.live = live, .atoms = atoms, .limit = limit < 0 ? 0 : (size_t)Py_MIN(limit, UINT32_MAX)};
    PyObject *held = NULL;
    int collects = PyGC_Disable();
    w.out = s;
    if (old != NULL && old->nroots != SIZE_MAX)
        make_room(&w, old);
    int failed = start_walk(&w, s, roots);
    if (!failed) {
        s->words = fitted(s->words, s->nwords * sizeof *s->words);
        s->records = fitted(s->records, s->nrecords * sizeof *s->records);
        s->parents = fitted(s->parents, s->nrecords * sizeof *s->parents);
        s->infos = fitted(s->infos, s->ninfos * sizeof *s->infos);
        s->shared = fitted(s->shared, s->nshared * sizeof *s->shared);
        held = hold_leaves(s);
        failed = held == NULL || (old != NULL && (*found = difference(s, old)) == NULL);
    }
    if (collects)
        PyGC_Enable();
    int complete = failed ? (PyErr_Occurred() ? -1 : 0) : take_tokens(s, held);
    if (complete == 1 && old != NULL && compare_tokens(s, old, found) < 0)
        complete = -1;
    Py_XDECREF(held);
    PyObject_GC_Track(s);
    if (complete == 1)
        return (PyObject *)s;
    Py_DECREF(s);
    if (complete < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *take_snapshot(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *roots, *live, *leaf, *atoms;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "O!O!OnO!:snapshot", &PyTuple_Type, &roots, &PyDict_Type, &live, &leaf, &limit,
                          &PyTuple_Type, &atoms))
        return NULL;
    return take(NULL, roots, live, leaf, limit, atoms, NULL);
}

static PyObject *advance(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *old, *roots, *live, *leaf, *atoms, *found = NULL;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "O!O!O!OnO!:advance", snapshot_type, &old, &PyTuple_Type, &roots, &PyDict_Type, &live,
                          &leaf, &limit, &PyTuple_Type, &atoms))
        return NULL;
    if (stand_alone((Snapshot *)old) < 0)
        return NULL;
    PyObject *snapshot = take((Snapshot *)old, roots, live, leaf, limit, atoms, &found);
    if (snapshot == NULL || snapshot == Py_None) {
        Py_XDECREF(found);
        return snapshot;
    }
    return Py_BuildValue("NN", snapshot, found);
}

static PyObject *is_unchanged(Snapshot *s, PyObject *given)
{
    PyObject *roots = PySequence_Tuple(given), *held = NULL;
    if (roots == NULL)
        return NULL;
    int collects = PyGC_Disable();
    Snapshot *with_leaves = s->base != NULL ? s->base : s;
    int changed = (s->base != NULL ? amended_graph_differs : graph_differs)(
        s, &PyTuple_GET_ITEM(roots, 0), (size_t)PyTuple_GET_SIZE(roots));
    if (!changed && with_leaves->nleaves > 0 && (held = hold_leaves(with_leaves)) == NULL)
        changed = -1;
    if (collects)
        PyGC_Enable();
    Py_DECREF(roots);
    if (!changed && held != NULL) {
        Py_INCREF(with_leaves);
        changed = tokens_differ(with_leaves, held);
        Py_DECREF(with_leaves);
    }
    Py_XDECREF(held);
    return changed < 0 ? NULL : PyBool_FromLong(!changed);
}

static int snapshot_traverse(Snapshot *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(s));
    Py_VISIT(s->leaf);
    Py_VISIT(s->base);
    for (size_t i = 0; i < s->nleaves; i++)
        Py_VISIT(s->leaves[i].token);
    return 0;
}

static int snapshot_clear(Snapshot *s)
{
    Leaf *leaves = s->leaves;
    size_t nleaves = s->nleaves;
    s->leaves = NULL;
    s->nleaves = 0;
    s->nroots = SIZE_MAX;  /* equal to nothing any more */
    for (size_t i = 0; i < nleaves; i++) {
        Py_XDECREF(leaves[i].token);
        Py_DECREF(leaves[i].type);
    }
    PyMem_RawFree(leaves);
    Py_CLEAR(s->leaf);
    Py_CLEAR(s->base);
    return 0;
}

/* What it holds but for what may be in a cycle. */
static void forget(Snapshot *s)
{
    drop_words(s->words, s->nwords);
    PyMem_RawFree(s->records);
    PyMem_RawFree(s->parents);
    PyMem_RawFree(s->cells);
    PyMem_RawFree(s->shared_cells);
    PyMem_RawFree(s->shared);
    PyMem_RawFree(s->numbers);
    drop_parts(s);
    free_infos(s->infos, s->ninfos);
}

static void snapshot_dealloc(Snapshot *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    snapshot_clear(s);
    forget(s);
    PyObject_GC_Del(s);
    Py_DECREF(type);
}

static PyObject *snapshot_nbytes(Snapshot *s, void *Py_UNUSED(closure))
{
    if (stand_alone(s) < 0)
        return NULL;
    size_t nbytes = sizeof *s + s->nwords * sizeof *s->words + s->nrecords * sizeof *s->records
                    + s->ninfos * sizeof *s->infos + s->nleaves * sizeof *s->leaves + s->nshared * sizeof *s->shared
                    + s->nrecords * sizeof *s->parents + (s->cells != NULL ? (s->cells_mask + 1) * sizeof *s->cells : 0)
                    + (s->numbers != NULL ? s->nrecords * sizeof *s->numbers : 0);
    return PyLong_FromSize_t(nbytes);
}

static PyObject *snapshot_references(Snapshot *s, void *Py_UNUSED(closure))
{
    if (stand_alone(s) < 0)
        return NULL;
    return PyLong_FromSize_t(s->nwords);
}

static PyObject *addresses(const void *first, size_t stride, size_t n)
{
    PyObject *found = PyFrozenSet_New(NULL);
    for (size_t i = 0; found != NULL && i < n; i++) {
        PyObject *address = PyLong_FromVoidPtr(*(void *const *)((const char *)first + i * stride));
        if (address == NULL || PySet_Add(found, address) < 0)
            Py_CLEAR(found);
        Py_XDECREF(address);
    }
    return found;
}

static PyObject *snapshot_shared(Snapshot *s, PyObject *Py_UNUSED(ignored))
{
    if (stand_alone(s) < 0)
        return NULL;
    return addresses(s->shared, sizeof *s->shared, s->nshared);
}

static PyObject *snapshot_containers(Snapshot *s, PyObject *Py_UNUSED(ignored))
{
    if (stand_alone(s) < 0)
        return NULL;
    return addresses((char *)s->records + offsetof(Record, obj), sizeof *s->records, s->nrecords);
}

/* Places by address from a memo {address: (place, object)}; None if one that was visited has none. */
static PyObject *snapshot_numbers(Snapshot *s, PyObject *memo)
{
    if (stand_alone(s) < 0)
        return NULL;
    if (!PyDict_Check(memo)) {
        PyErr_SetString(PyExc_TypeError, "a memo is a dict");
        return NULL;
    }
    PyObject *found = PyDict_New();
    for (size_t i = 0; found != NULL && i < s->nrecords; i++) {
        PyObject *address = PyLong_FromVoidPtr(s->records[i].obj), *entry = NULL;
        if (address != NULL)
            entry = PyDict_GetItemWithError(memo, address);
        if (entry != NULL && PyTuple_Check(entry) && PyTuple_GET_SIZE(entry) == 2) {
            if (PyDict_SetItem(found, address, PyTuple_GET_ITEM(entry, 0)) < 0)
                Py_CLEAR(found);
        } else if (PyErr_Occurred() || address == NULL) {
            Py_CLEAR(found);
        } else if (s->records[i].count != 0 || s->records[i].type >= nbases || bases[s->records[i].type].type != &PyTuple_Type) {
            Py_DECREF(found);  /* an empty tuple is made anew wherever it is met */
            Py_DECREF(address);
            Py_RETURN_NONE;
        }
        Py_XDECREF(address);
    }
    return found;
}

/* Of the object at an address, its place in the pickle that was written; None if it has none. */
static PyObject *snapshot_place(Snapshot *s, PyObject *address)
{
    void *at = PyLong_AsVoidPtr(address);
    if (PyErr_Occurred())
        return NULL;
    Py_ssize_t i = s->numbers != NULL ? find_record(s, (uintptr_t)at) : -1;
    if (i == -2)
        return NULL;
    if (i < 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(s->numbers[i] - 1);
}

/* Types of Python code among those that were met. */
static PyObject *snapshot_kinds(Snapshot *s, PyObject *Py_UNUSED(ignored))
{
    if (stand_alone(s) < 0)
        return NULL;
    PyObject *kinds = PyList_New(0);
    for (size_t i = 0; kinds != NULL && i < s->ninfos; i++)
        if (PyList_Append(kinds, (PyObject *)s->infos[i].type) < 0)
            Py_CLEAR(kinds);
    return kinds;
}

static PyMethodDef snapshot_methods[] = {
    {"numbers", (PyCFunction)snapshot_numbers, METH_O, "Places in a pickler's memo, by address; None if one has none."},
    {"needs", (PyCFunction)snapshot_needs, METH_O,
     "needs(most) -> (an instance of each class, atoms that others must write) or None"},
    {"write", (PyCFunction)snapshot_write, METH_VARARGS,
     "write(roots, names, places, first) -> (end of a pickle of a unit of these names, places taken) or None"},
    {"edit_needs", (PyCFunction)snapshot_edit_needs, METH_VARARGS,
     "edit_needs(added, least, most) -> as needs, of the new objects of an amended one"},
    {"write_edit", (PyCFunction)snapshot_write_edit, METH_VARARGS,
     "write_edit(roots, added, said, names, without, numbers, gone, places, first) -> (end of a pickle, places taken, "
     "places of the new objects) or None"},
    {"place", (PyCFunction)snapshot_place, METH_O, "The place in what was written of the object at an address, or None."},
    {"disordered", (PyCFunction)snapshot_disordered, METH_O,
     "disordered(roots) -> (set, size, places, removed) of those whose elements would be elsewhere if added anew, or None"},
    {"kinds", (PyCFunction)snapshot_kinds, METH_NOARGS, "Types of what was met, but for the built-in ones."},
    {"shared", (PyCFunction)snapshot_shared, METH_NOARGS, "Addresses of objects that two names could share and one change."},
    {"containers", (PyCFunction)snapshot_containers, METH_NOARGS, "Addresses of the objects that were visited."},
    {"is_unchanged", (PyCFunction)is_unchanged, METH_O, "Whether these roots, and all they reach, are surely as they were."},
    {NULL, NULL, 0, NULL},
};

static PyObject *snapshot_objects(Snapshot *s, void *Py_UNUSED(closure))
{
    if (stand_alone(s) < 0)
        return NULL;
    return PyLong_FromSize_t(s->nrecords);
}

static PyObject *snapshot_has_shared_dict(Snapshot *s, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(s->has_shared_dict);
}

static PyGetSetDef snapshot_getset[] = {
    {"has_shared_dict", (getter)snapshot_has_shared_dict, NULL,
     "Whether something beside its instance referred to the dictionary of one.", NULL},
    {"nbytes", (getter)snapshot_nbytes, NULL, "Bytes of memory that the snapshot takes.", NULL},
    {"objects", (getter)snapshot_objects, NULL, "Objects that were visited.", NULL},
    {"references", (getter)snapshot_references, NULL, "References that were written down.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot snapshot_slots[] = {
    {Py_tp_methods, snapshot_methods},
    {Py_tp_getset, snapshot_getset},
    {Py_tp_traverse, snapshot_traverse},
    {Py_tp_clear, snapshot_clear},
    {Py_tp_dealloc, snapshot_dealloc},
    {0, NULL},
};

static PyType_Spec snapshot_spec = {
    .name = "lambdakernel.state._graph.Snapshot",
    .basicsize = sizeof(Snapshot),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = snapshot_slots,
};

#include "_graph_bases.h"

static PyMethodDef functions[] = {
    {"snapshot", take_snapshot, METH_VARARGS, "snapshot(roots, live, leaf, limit, atoms) -> Snapshot or None"},
    {"arrange", arrange, METH_VARARGS, "arrange(set, size, places, removed) -> whether its elements are there now"},
    {"amend", amend, METH_VARARGS, "amend(old, roots, live, atoms) -> (Snapshot, difference) or None"},
    {"advance", advance, METH_VARARGS,
     "advance(old, roots, live, leaf, limit, atoms) -> (Snapshot, difference or None) or None"},
    {"nested", nested, METH_VARARGS,
     "nested(roots, live, limit, atoms, stride, plain) -> (parts, is cyclic, kinds of instances) or None"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "lambdakernel.state._graph", "See lambdakernel.state.graph.", -1, functions,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__graph(void)
{
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL || (nbases == 0 && add_bases() < 0))
        return NULL;
    if (snapshot_type == NULL && (snapshot_type = (PyTypeObject *)PyType_FromSpec(&snapshot_spec)) == NULL)
        return NULL;
    return PyModule_Create(&definition);
}
